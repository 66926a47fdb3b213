"""watching: `assets watch`, and how a command waits for a job.

Knows the events of a job, and that Ctrl-C ends the waiting only.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from serve_app.cli.options import ApiKey, Server, connect
from serve_app.cli.printing import err, one_line, out, progress_line, show_images
from serve_app.client import SERVER, AssetsError, Client, Job


def watch(
    job_id: Annotated[str | None, typer.Argument(metavar="JOB", help="Default: all.")] = None,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Follow one job to its end, or every job of mine until Ctrl-C."""
    with connect(server, api_key) as client:
        if job_id is None:
            watch_all(client)
            return
        job = client.job(job_id)
        with goes_on(job), bar(job) as show:
            for event in client.events(job_id):
                job = job.after(event)
                show(job)
        show_images(client, succeeded(job), None)


def watch_all(client: Client) -> None:
    """A line per change of status."""
    known: dict[str, str] = {}
    for event in client.events():
        if event.kind == "status":
            job = Job.of(event.data)
            # A stream that was opened again repeats statuses.
            if known.get(job.job_id) != job.status:
                known[job.job_id] = job.status
                out.print(f"{job.job_id}  {job.status:<7}  {job.error or one_line(job.prompt)}")


def wait_and_show(client: Client, job: Job, directory: Path | None) -> None:
    """Wait for the job behind a progress bar, and show its images. Raises AssetsError if it fails."""
    show_images(client, finished(client, job), directory)


def finished(client: Client, job: Job) -> Job:
    """The job once it has succeeded, waited for behind a progress bar. Raises AssetsError if it fails."""
    with goes_on(job), bar(job) as show:
        job = client.wait(job.job_id, on_progress=show)
    return succeeded(job)


@contextmanager
def bar(job: Job) -> Generator[Callable[[Job], None]]:
    """A progress bar; yields the function that moves it to a newer state of the job."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(progress_line(job), total=1.0)
        yield lambda j: progress.update(task, completed=j.progress, description=progress_line(j))


@contextmanager
def goes_on(job: Job) -> Generator[None]:
    """Ctrl-C ends the waiting and not the job: say so."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(
            f"Job {job.job_id} goes on. `assets watch {job.job_id}` shows it, "
            f"`assets cancel {job.job_id}` ends it.",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None


def succeeded(job: Job) -> Job:
    if job.status != "SUCCESS":
        raise AssetsError(f"job {job.job_id} ended as {job.status}: {job.error}")
    return job
