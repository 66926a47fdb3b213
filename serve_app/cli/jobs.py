"""jobs: `assets jobs`, `status`, `cancel` and `delete`, for jobs that exist.

Knows ids and filters; it waits for no job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.table import Column, Table

from serve_app.cli.options import ApiKey, JobId, JobIds, Server, connect
from serve_app.cli.printing import err, one_line, out, place, progress_line, show_images
from serve_app.client import SERVER, Rejected


def status(
    job_id: JobId,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Say how a job is."""
    with connect(server, api_key) as client:
        job = client.job(job_id)
        out.print(f"{job.status}  {job.error or progress_line(job)}  {job.progress:.0%}")
        show_images(client, job, None)


def list_jobs(
    status: Annotated[list[str] | None, typer.Option(help="E.g. PENDING; repeatable.")] = None,
    style: Annotated[str | None, typer.Option(help="See `assets styles`.")] = None,
    model: Annotated[str | None, typer.Option(help="See `assets models`.")] = None,
    tag: Annotated[str | None, typer.Option(help="As given to `assets generate`.")] = None,
    words: Annotated[str | None, typer.Option(help="With all these in the prompt.")] = None,
    starred: Annotated[bool, typer.Option("--starred", help="With a starred image.")] = False,
    rating: Annotated[
        int | None, typer.Option(min=1, max=5, help="With an image of so many stars.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Jobs at most.")] = 20,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """List my jobs, newest first."""
    # Ids are there to be copied, so in a narrow terminal only style and prompt are cut.
    widths = {"job": 36, "status": 7, "place": 15, "created": 11, "style": 8, "prompt": 12}
    columns = [Column(name, min_width=width, no_wrap=True) for name, width in widths.items()]
    table = Table(*columns, box=None)
    wanted = [name.upper() for name in status or ()]
    with connect(server, api_key) as client:
        for job in client.jobs(
            status=wanted,
            style_id=style,
            model=model,
            tag=tag,
            words=words,
            starred=starred or None,
            rating=rating,
            limit=limit,
        ):
            created = f"{job.created_at.astimezone():%m-%d %H:%M}"
            prompt = one_line(job.prompt)
            table.add_row(job.job_id, job.status, place(job), created, job.style_id, prompt)
    out.print(table)


def cancel(job_ids: JobIds, server: Server = SERVER, api_key: ApiKey = None) -> None:
    """Cancel jobs. What is finished stays."""
    with connect(server, api_key) as client:
        for_each(job_ids, lambda job_id: client.cancel(job_id).status)


def delete(
    job_ids: JobIds,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Remove jobs and their files for good. A live job is cancelled first."""
    if not yes:
        typer.confirm(f"Delete {len(job_ids)} job(s) with all files?", abort=True, err=True)
    with connect(server, api_key) as client:

        def act(job_id: str) -> str:
            client.delete(job_id)
            return "deleted"

        for_each(job_ids, act)


def for_each(job_ids: Sequence[str], act: Callable[[str], str]) -> None:
    """Do `act` with each job and print a line about it. Exits with 1 if any was refused, after the last."""
    refused = False
    for job_id in job_ids:
        try:
            out.print(f"{job_id}  {act(job_id)}")
        except Rejected as error:
            refused = True
            err.print(f"{job_id}  {error}", markup=False, soft_wrap=True)
    if refused:
        raise typer.Exit(1)
