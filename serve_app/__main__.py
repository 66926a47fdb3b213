"""assets: the command line of the service, on top of `client.py`.

Knows nothing of the server but its address; `keys` alone writes a file of the server's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from serve_app.api.keys import add_key
from serve_app.client import SERVER, AssetsError, Client, Job
from serve_app.config import Settings
from serve_app.errors import ServiceError

app = typer.Typer(
    help="Order game assets from a running service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
keys = typer.Typer(help="API keys of this server.", no_args_is_help=True)
app.add_typer(keys, name="keys")

out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True)

Server = Annotated[str, typer.Option(envvar="ASSETS_SERVER", help="Where the service is.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="ASSETS_API_KEY", help="If the server asks for one.")
]


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    style: Annotated[str, typer.Option(help="See `assets styles`.")] = "none",
    negative: Annotated[str, typer.Option(help="What to keep out.")] = "",
    seed: Annotated[int, typer.Option(help="-1: drawn at random.")] = -1,
    n: Annotated[int, typer.Option("-n", "--n", help="Images.")] = 1,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="See `assets models`.")] = None,
    model: Annotated[str | None, typer.Option(help="See `assets models`.")] = None,
    draft: Annotated[bool, typer.Option("--draft", help="Cheaper, rougher.")] = False,
    to: Annotated[Path | None, typer.Option("--out", help="Also save the files here.")] = None,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Order images, wait for them, and say where they are."""
    with Client(server, api_key=api_key) as client:
        job = client.generate(
            prompt,
            style_id=style,
            negative_prompt=negative,
            seed=seed,
            n=n,
            size=size,
            steps=steps,
            guidance_scale=guidance,
            scheduler=scheduler,
            model=model,
            quality="draft" if draft else None,
        )
        job = watch(client, job)
        show_images(client, job, to)


def watch(client: Client, job: Job) -> Job:
    """Wait behind a progress bar. Raises AssetsError unless the job succeeds."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(told(job), total=1.0)
        job = client.wait(
            job.job_id,
            on_progress=lambda j: bar.update(task, completed=j.progress, description=told(j)),
        )
    if job.status != "SUCCESS":
        raise AssetsError(f"job {job.job_id} ended as {job.status}: {job.error}")
    return job


def show_images(client: Client, job: Job, directory: Path | None) -> None:
    paths = client.download(job, directory) if directory else [None] * len(job.images)
    for image, path in zip(job.images, paths, strict=True):
        if path is not None:
            out.print(str(path.resolve()))
        out.print(f"{client.url(image)}  (seed {image.seed})")
        for note in image.notes:
            err.print(f"  {note}", markup=False)


def told(job: Job) -> str:
    """One line on where a job stands."""
    if job.queue_position is None:
        return (job.raw["progress"] or {}).get("stage") or job.status.lower()
    eta = "" if job.eta_seconds is None else f", about {job.eta_seconds:.0f} s"
    why = f", {job.waiting_for}" if job.waiting_for else ""
    return f"waiting, place {job.queue_position}{eta}{why}"


@app.command()
def status(
    job_id: Annotated[str, typer.Argument(help="From `assets generate`, or the API.")],
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Say how a job is."""
    with Client(server, api_key=api_key) as client:
        job = client.job(job_id)
        out.print(f"{job.status}  {job.error or told(job)}  {job.progress:.0%}")
        show_images(client, job, None)


@app.command()
def styles(server: Server = SERVER, api_key: ApiKey = None) -> None:
    """List the styles."""
    table = Table("style", "title", "drawn here", "for")
    with Client(server, api_key=api_key) as client:
        for style in client.styles():
            here = "yes" if style["drawable"] else "no"
            table.add_row(style["style_id"], style["title"], here, style["description"])
    out.print(table)


@app.command()
def models(server: Server = SERVER, api_key: ApiKey = None) -> None:
    """List the models."""
    table = Table("model", "title", "active", "size", "schedulers")
    with Client(server, api_key=api_key) as client:
        for model in client.models():
            width, height = model["native_size"]
            active = "yes" if model["active"] else "no"
            schedulers = ", ".join(model["schedulers"])
            table.add_row(model["name"], model["title"], active, f"{width}x{height}", schedulers)
    out.print(table)


@keys.command()
def add(
    owner: Annotated[str, typer.Argument(help="Whose jobs they will be.")],
    file: Annotated[
        Path | None,
        typer.Option(help="Default: the service's api_keys_file, else api_keys in its state_dir."),
    ] = None,
) -> None:
    """Make a key, store its hash, and show it: once."""
    settings = Settings()
    path = file or settings.path(settings.api_keys_file or settings.state_dir / "api_keys")
    out.print(add_key(path, owner))
    err.print(
        f"Its hash is in {path}; the key itself is kept nowhere. The service reads the file "
        "named by `api_keys_file` when it starts.",
        markup=False,
    )


def main(args: Sequence[str] | None = None) -> None:
    try:
        app(args)
    except (AssetsError, ServiceError) as error:
        sys.exit(f"assets: {error}")


if __name__ == "__main__":
    main()
