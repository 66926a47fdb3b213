"""printing: how jobs, images and notes look on a terminal.

What a script may read goes to `out`; everything else goes to `err`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from serve_app.client import Client, Job

PROMPT_CHARS = 40  # of a job in a list

out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True)


def show_images(client: Client, job: Job, directory: Path | None) -> None:
    paths = client.download(job, directory) if directory else [None] * len(job.images)
    for image, path in zip(job.images, paths, strict=True):
        if path is not None:
            out.print(str(path.resolve()))
        out.print(f"{client.url(image)}  (seed {image.seed})")
        show_notes(image.notes)


def show_notes(notes: Sequence[str]) -> None:
    for note in notes:
        err.print(f"  {note}", markup=False, soft_wrap=True)


def progress_line(job: Job) -> str:
    """Where a job stands, in one line."""
    if job.queue_position is None:
        return (job.raw["progress"] or {}).get("stage") or job.status.lower()
    eta = "" if job.eta_seconds is None else f", about {job.eta_seconds:.0f} s"
    why = f", {job.waiting_for}" if job.waiting_for else ""
    return f"waiting, place {job.queue_position}{eta}{why}"


def place(job: Job) -> str:
    """Place in line, or that it runs; and seconds left."""
    eta = None if job.eta_seconds is None else f"{job.eta_seconds:.0f} s"
    line = None if job.queue_position is None else str(job.queue_position)
    running = "running" if job.status == "STARTED" else None
    return ", ".join(filter(None, (line or running, eta)))


def one_line(prompt: str) -> str:
    text = " ".join(prompt.split())
    return text if len(text) <= PROMPT_CHARS else text[: PROMPT_CHARS - 1] + "…"
