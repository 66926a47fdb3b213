"""demo: starts the service on a free port with its own state, orders one picture, makes a pixel version and
a sheet of both, and stops.

Knows the service only as its user does, through HTTP. Nothing is left running; the files stay.
"""

from __future__ import annotations

import argparse
import io
import os
import socket
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from serve_app.client import Client, Job
from serve_app.config import Settings
from serve_app.delivery.names import readable_name
from serve_app.errors import NotServing
from serve_app.tools import own_ray
from serve_app.tools.lint import OUR_APP

PROMPT = "a castle"
KEPT = "demo"
"""Folder below the output folder for what a developer would take along."""
PIXELS: list[dict[str, Any]] = [
    {"op": "cutout"},
    {"op": "pixelate", "width": 32, "height": 32},
    {"op": "palette", "colors": 16},
    {"op": "trim", "padding": 1},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt", nargs="?", default=PROMPT)
    parser.add_argument("--style", default="icon")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    console = Console(file=sys.stdout)  # this one, although Ray's words are sent elsewhere
    os.environ["RAY_AUTH_MODE"] = "disabled"  # it listens on loopback, and ends with this command
    own_ray.prepare()
    port = free_port()
    began = time.monotonic()
    try:
        with console.status("Starting (10 to 60 s) ...") as status:

            def told(text: str) -> None:
                status.update(f"{text} ...")

            with own_ray.serving(config(port), dashboard=False, told=told):
                console.print(f"The service answers after {time.monotonic() - began:.0f} s.")
                draw(console, told, port, given.prompt, given.style, given.seed)
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise SystemExit(130) from None
    except NotServing as error:
        raise SystemExit(f"demo: {error}") from None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def config(port: int) -> dict[str, Any]:
    """A Serve config with a state of its own, beside that of the real service."""
    args = {"app_name": "demo", "state_dir": ".demo/state", "num_cpus": 0.5}
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port},
        "logging_config": {"log_level": "ERROR"},
        "applications": [
            {"name": "demo", "route_prefix": "/", "import_path": OUR_APP, "args": args}
        ],
    }


def draw(
    console: Console, told: Callable[[str], None], port: int, prompt: str, style: str, seed: int
) -> None:
    settings = Settings()

    def show(job: Job) -> None:
        told(f"{job.status.lower()}, {job.progress:.0%}")

    with Client(f"http://127.0.0.1:{port}") as client:
        console.print(f'Ordering "{prompt}" in style {style}, seed {seed}.')

        def done(job: Job) -> Job:
            job = client.wait(job.job_id, on_progress=show)
            if job.status != "SUCCESS":
                raise SystemExit(f"demo: the job ended as {job.status}: {job.error}")
            return job

        def told_of(what: str, path: Path) -> None:
            console.print(f"{what}: {path}", soft_wrap=True)

        kept = settings.path(settings.output_dir) / KEPT
        kept.mkdir(parents=True, exist_ok=True)
        job = done(client.generate(prompt, style_id=style, seed=seed))
        name = readable_name(prompt, seed)
        told_of("Picture, cut out", _put(kept / f"{name}.png", client.fetch(job.images[0].url)))
        pixel = done(client.derive(job.job_id, PIXELS))
        told_of("In pixels", _put(kept / f"{name}_pixel.png", client.fetch(pixel.images[0].url)))
        items = [
            {"job_id": job.job_id, "name": name},
            {"job_id": pixel.job_id, "name": f"{name}_pixel"},
        ]
        sheet = done(
            client.sheet(items, name=f"{name}_sheet", formats=["texturepacker_hash"], padding=2)
        )
        with zipfile.ZipFile(io.BytesIO(client.archive(sheet))) as archive:
            for file in (f"{name}_sheet.png", f"{name}_sheet.json"):
                told_of("Sheet of both", _put(kept / file, archive.read(file)))
        url = client.url(job.images[0])
        console.print(f"URL of the picture (while the service runs): {url}", soft_wrap=True)


def _put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


if __name__ == "__main__":
    main()
