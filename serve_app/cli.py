"""assets: the command line of the service, on top of `client.py`.

Knows nothing of the server but its address. Only `keys` reads and writes a file of the server.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from serve_app import __version__
from serve_app.api.keys import add_key, list_keys, revoke_keys
from serve_app.catalog.style_import import import_styles
from serve_app.client import SERVER, AssetsError, Client, Job, Rejected, ServerAway
from serve_app.config import Settings, user_path
from serve_app.errors import ConfigError, ServiceError
from serve_app.tools import commands

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
keys = typer.Typer(help="API keys of this server.", no_args_is_help=True)
styles = typer.Typer(help="List the styles, or import those of other programs.")
app.add_typer(keys, name="keys")
app.add_typer(styles, name="styles", invoke_without_command=True)
app.command()(commands.check)
app.command()(commands.run)
app.command()(commands.deploy)

out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True)
PROMPT_CHARS = 40  # of a job in a list
NEXT_STEP = (
    "`serve run serve_config.yaml` starts one on this machine; "
    "--server or ASSETS_SERVER names another"
)


def home_path(text: str) -> Path:
    """Also where a shell leaves `~` alone, as in `--out=~/pictures`."""
    try:
        return user_path(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Server = Annotated[str, typer.Option(envvar="ASSETS_SERVER", help="Where the service is.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="ASSETS_API_KEY", help="If the server asks for one.")
]
To = Annotated[
    Path | None, typer.Option("--out", parser=home_path, help="Also save the files here.")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="From `assets jobs`, or the API.")]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB", help="From `assets jobs`.")]


def show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"assets {__version__}")
        raise typer.Exit


@app.callback()
def assets(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Order game assets from a running service."""


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    style: Annotated[
        str | None, typer.Option(help="See `assets styles`; default: the server's.")
    ] = None,
    negative: Annotated[str, typer.Option(help="What to keep out.")] = "",
    seed: Annotated[int, typer.Option(help="-1: drawn at random.")] = -1,
    n: Annotated[int, typer.Option("-n", "--n", help="Images.")] = 1,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="See `assets models`.")] = None,
    model: Annotated[str | None, typer.Option(help="See `assets models`.")] = None,
    draft: Annotated[bool, typer.Option("--draft", help="Cheaper, rougher.")] = False,
    priority: Annotated[str | None, typer.Option(help="low, normal or high.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="To find it by; repeatable.")] = None,
    cancel_after: Annotated[
        int | None, typer.Option(help="Seconds after which to give it up.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how long.")] = False,
    to: To = None,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Order images, wait for them, and say where they are."""
    order: dict[str, Any] = {
        "style_id": style,
        "negative_prompt": negative,
        "seed": seed,
        "n": n,
        "size": size,
        "steps": steps,
        "guidance_scale": guidance,
        "scheduler": scheduler,
        "model": model,
        "quality": "draft" if draft else None,
        "priority": priority,
        "tags": tag or None,
    }
    with Client(server, api_key=api_key) as client:
        if dry_run:
            show_estimate(client.estimate(prompt, **order))
        else:
            job = client.generate(prompt, cancel_after_s=cancel_after, **order)
            finish(client, job, to)


@app.command()
def retry(job_id: JobId, to: To = None, server: Server = SERVER, api_key: ApiKey = None) -> None:
    """Order a finished job once more, wait for it, and say where its images are."""
    with Client(server, api_key=api_key) as client:
        finish(client, client.retry(job_id), to)


@app.command("watch")
def watch_jobs(
    job_id: Annotated[str | None, typer.Argument(metavar="JOB", help="Default: all.")] = None,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Follow one job to its end, or every job of mine until Ctrl-C."""
    with Client(server, api_key=api_key) as client:
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
            if (
                known.get(job.job_id) != job.status
            ):  # a stream that was opened again repeats statuses
                known[job.job_id] = job.status
                out.print(f"{job.job_id}  {job.status:<7}  {job.error or one_line(job.prompt)}")


def finish(client: Client, job: Job, directory: Path | None) -> None:
    """Wait for the job behind a progress bar, and show its images. Raises AssetsError if it fails."""
    with goes_on(job), bar(job) as show:
        job = client.wait(job.job_id, on_progress=show)
    show_images(client, succeeded(job), directory)


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


def show_estimate(estimate: Mapping[str, Any]) -> None:
    if not estimate["possible"]:
        raise AssetsError(f"not possible: {estimate['reason']}")
    seconds = estimate["estimated_seconds"]
    out.print("possible, time unknown" if seconds is None else f"possible, about {seconds:.1f} s")
    show_notes(estimate.get("notes", []))


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


@app.command()
def status(
    job_id: JobId,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Say how a job is."""
    with Client(server, api_key=api_key) as client:
        job = client.job(job_id)
        out.print(f"{job.status}  {job.error or progress_line(job)}  {job.progress:.0%}")
        show_images(client, job, None)


@app.command()
def jobs(
    status: Annotated[list[str] | None, typer.Option(help="E.g. PENDING; repeatable.")] = None,
    style: Annotated[str | None, typer.Option(help="See `assets styles`.")] = None,
    tag: Annotated[str | None, typer.Option(help="As given to `assets generate`.")] = None,
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
    with Client(server, api_key=api_key) as client:
        for job in client.jobs(status=wanted, style_id=style, tag=tag, limit=limit):
            created = f"{job.created_at.astimezone():%m-%d %H:%M}"
            prompt = one_line(job.prompt)
            table.add_row(job.job_id, job.status, place(job), created, job.style_id, prompt)
    out.print(table)


@app.command()
def cancel(job_ids: JobIds, server: Server = SERVER, api_key: ApiKey = None) -> None:
    """Cancel jobs. What is finished stays."""
    with Client(server, api_key=api_key) as client:
        for_each(job_ids, lambda job_id: client.cancel(job_id).status)


@app.command()
def delete(
    job_ids: JobIds,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Remove jobs and their files for good. A live job is cancelled first."""
    if not yes:
        typer.confirm(f"Delete {len(job_ids)} job(s) with all files?", abort=True, err=True)
    with Client(server, api_key=api_key) as client:

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


def place(job: Job) -> str:
    """Place in line, or that it runs; and seconds left."""
    eta = None if job.eta_seconds is None else f"{job.eta_seconds:.0f} s"
    line = None if job.queue_position is None else str(job.queue_position)
    running = "running" if job.status == "STARTED" else None
    return ", ".join(filter(None, (line or running, eta)))


def one_line(prompt: str) -> str:
    text = " ".join(prompt.split())
    return text if len(text) <= PROMPT_CHARS else text[: PROMPT_CHARS - 1] + "…"


@styles.callback()
def list_styles(context: typer.Context, server: Server = SERVER, api_key: ApiKey = None) -> None:
    """List the styles, or import those of other programs."""
    if context.invoked_subcommand is not None:
        return
    table = Table("style", "title", "drawn here", "for")
    with Client(server, api_key=api_key) as client:
        for style in client.styles():
            here = "yes" if style["drawable"] else "no"
            title = f"{style['title']} (default)" if style.get("default") else style["title"]
            table.add_row(style["style_id"], title, here, style["description"])
    out.print(table)


@styles.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            parser=home_path,
            metavar="FILE",
            help="A styles.csv of AUTOMATIC1111, a JSON list of Fooocus or SDXL, presets of InvokeAI.",
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", parser=home_path, help="Default: FILE's name with .yaml, here."),
    ] = None,
) -> None:
    """Write the styles of another program as a styles file of this service, and say what was left out."""
    found = import_styles(file)
    to = to or Path(file.with_suffix(".yaml").name)
    try:
        with to.open("x", encoding="utf-8") as written:
            written.write(found.yaml(file.name))
    except FileExistsError as error:
        raise ConfigError(f"{to} exists already: name another file with --to") from error
    except OSError as error:
        raise ConfigError(f"{to} cannot be written: {error.strerror}") from error
    out.print(f"{len(found.styles)} styles are in {to}: {', '.join(found.styles)}")
    show_notes(found.remarks)
    err.print(
        "Copy those you want below `styles:` of configs/styles.yaml, or set `styles_file` to this file. "
        "Then restart or deploy the service.",
        markup=False,
        soft_wrap=True,
    )


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


KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--file",
        parser=home_path,
        help="The service's api_keys_file. Default: ASSETS_API_KEYS_FILE, else api_keys in "
        "ASSETS_STATE_DIR.",
    ),
]


def keys_path(file: Path | None) -> Path:
    settings = Settings()
    return file or settings.path(settings.api_keys_file or settings.state_dir / "api_keys")


@keys.command()
def add(
    owner: Annotated[str, typer.Argument(help="Whose jobs they will be.")], file: KeysFile = None
) -> None:
    """Make a key, store its hash, and show it: once."""
    path = keys_path(file)
    out.print(add_key(path, owner))
    err.print(
        f"Its hash is in {path}; the key itself is kept nowhere. A service whose `api_keys_file` is this "
        "file takes the key from the next request on. One that runs without keys needs the setting, and a "
        "restart.",
        markup=False,
        soft_wrap=True,
    )


@keys.command("list")
def list_(file: KeysFile = None) -> None:
    """Show whose keys there are, and how each key's hash begins."""
    table = Table("owner", "key")
    for owner, fingerprint in list_keys(keys_path(file)):
        table.add_row(owner, fingerprint)
    out.print(table)


@keys.command()
def revoke(
    owner: Annotated[str, typer.Argument(help="Whose keys.")],
    key: Annotated[str, typer.Option(help="Only the one that `assets keys list` shows so.")] = "",
    file: KeysFile = None,
) -> None:
    """Take keys out of the file. Jobs stay their owner's."""
    path = keys_path(file)
    number = revoke_keys(path, owner, key)
    out.print(
        f"{number} key(s) of {owner} are out of {path}, and refused from the next request on."
    )
    if not list_keys(path):
        err.print(
            "No key is left: a service that runs refuses every request, and none starts with this file.",
            soft_wrap=True,
        )


def main(args: Sequence[str] | None = None) -> None:
    try:
        app(args, prog_name="assets")
    except ServerAway as error:
        sys.exit(f"assets: {error}; {NEXT_STEP}")
    except (AssetsError, ServiceError) as error:
        sys.exit(f"assets: {error}")
    except ValidationError as error:  # of Settings, from the environment
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        sys.exit(f"assets: a setting in the environment is wrong: {wrong}")


if __name__ == "__main__":
    main()
