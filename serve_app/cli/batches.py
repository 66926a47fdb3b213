"""batches: `assets batch FILE`, and `assets batch status`, `cancel`, `retry` and `archive`.

Knows files and batches as the client tells them; what a file may hold is the server's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from typer.core import TyperGroup

from serve_app.cli.options import ApiKey, Server, connect, home_path
from serve_app.cli.printing import err, out
from serve_app.client import ORDER_FILES, SERVER, Batch, Client, Rejected
from serve_app.delivery.names import safe_name

SHOWN = 20  # failed orders, and batches of a list
STATES = ("SUCCESS", "STARTED", "RETRY", "PENDING", "FAILURE", "REVOKED", "DELETED")


class FileOrCommand(TyperGroup):
    """`assets batch potions.csv` is `assets batch order potions.csv`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["order", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=FileOrCommand,
    no_args_is_help=True,
    help="Order many at once from a file: `assets batch FILE --wait`.",
)

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="From `assets batch status`.")]
Wait = Annotated[bool, typer.Option("--wait", help="Until all of it is done, with a live table.")]


@app.command()
def order(
    file: Annotated[
        Path,
        typer.Argument(parser=home_path, metavar="FILE", help=f"One of {', '.join(ORDER_FILES)}."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Default: the file's. What it has made is not made again.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make everything again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would make, and how long.")
    ] = False,
    wait: Wait = False,
    webhook: Annotated[
        str | None, typer.Option(help="A URL that is called when all of it is done.")
    ] = None,
    webhook_event: Annotated[
        list[str] | None,
        typer.Option(help="Or for this: queued, started, completed. May be repeated."),
    ] = None,
    cancel_after: Annotated[
        float | None, typer.Option(help="Seconds; what is not done by then is revoked.")
    ] = None,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Order everything in a file, or nothing if any of it is wrong. This is `assets batch FILE`."""
    if name is None and file.suffix.lower() != ".json":  # such a file says its name itself
        name = safe_name(file.stem)[:64]
    reuse = False if fresh else None
    with connect(server, api_key) as client:
        try:
            if dry_run:
                show_plan(client.estimate_batch(file, name=name, reuse=reuse))
                return
            batch = client.order_batch(
                file,
                name=name,
                reuse=reuse,
                webhook=webhook,
                webhook_events_filter=webhook_event,
                cancel_after_s=cancel_after,
            )
        except Rejected as error:
            raise each_line(error) from error
        show_accepted(batch)
        if wait:
            waited_for(client, batch)


@app.command()
def status(
    batch_id: Annotated[
        str | None, typer.Argument(metavar="BATCH", help="Default: list the newest.")
    ] = None,
    wait: Wait = False,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Say how a batch is, or list mine."""
    with connect(server, api_key) as client:
        if batch_id is None:
            out.print(listed([*client.batches(limit=SHOWN)]))
            return
        batch = client.batch(batch_id)
        if wait:
            waited_for(client, batch)
            return
        out.print(table_of(batch))
        show_failed(batch)


@app.command()
def cancel(batch_id: BatchId, server: Server = SERVER, api_key: ApiKey = None) -> None:
    """Cancel what of a batch is not done. What is drawn stays."""
    with connect(server, api_key) as client:
        out.print(summary(client.cancel_batch(batch_id)))


@app.command()
def retry(
    batch_id: BatchId, wait: Wait = False, server: Server = SERVER, api_key: ApiKey = None
) -> None:
    """Order again what failed or was cancelled, and nothing else."""
    with connect(server, api_key) as client:
        batch = client.retry_batch(batch_id)
        out.print(summary(batch))
        if wait:
            waited_for(client, batch)


@app.command()
def archive(
    batch_id: BatchId,
    to: Annotated[
        Path | None,
        typer.Option("--out", parser=home_path, help="Default: the batch's name, here."),
    ] = None,
    names: Annotated[
        str | None, typer.Option(help="Of the files, like '{style}/{row:4}_{name}'.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Also while it is not done: what there is.")
    ] = False,
    originals: Annotated[
        bool, typer.Option("--originals", help="Also pictures before their effects.")
    ] = False,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Save all files of a batch as one ZIP, with a manifest."""
    with connect(server, api_key) as client:
        batch = client.batch(batch_id)
        path = to or Path(f"{safe_name(batch.name or batch_id)}.zip")
        client.batch_archive(batch_id, path, names=names, partial=partial, originals=originals)
        out.print(str(path.resolve()))


def waited_for(client: Client, batch: Batch) -> None:
    """Wait behind a live table. Exits with 1 unless everything succeeded."""
    try:
        with live(batch) as show:
            batch = client.wait_batch(batch.batch_id, on_progress=show)
    except KeyboardInterrupt:
        err.print(
            f"Batch {batch.batch_id} goes on. `assets batch status {batch.batch_id} --wait` shows it, "
            f"`assets batch cancel {batch.batch_id}` ends it.",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    out.print(summary(batch))
    show_failed(batch)
    if batch.status != "SUCCESS":
        raise typer.Exit(1)


@contextmanager
def live(batch: Batch) -> Generator[Callable[[Batch], None]]:
    """One table that changes in its place; yields the function that shows a newer state."""
    with Live(table_of(batch), console=err, transient=True, auto_refresh=False) as shown:
        yield lambda newer: shown.update(table_of(newer), refresh=True)


def table_of(batch: Batch) -> Table:
    table = Table(*(Column(state.lower(), justify="right") for state in STATES), box=None)
    table.title = f"{batch.name or batch.batch_id}: {batch.status.lower()}, {left(batch)}"
    table.title_justify = "left"
    table.add_row(*(str(batch.counts.get(state, 0)) for state in STATES))
    grid = Table.grid()
    grid.add_row(table)
    grid.add_row(ProgressBar(total=1.0, completed=batch.progress, width=60))
    return grid


def left(batch: Batch) -> str:
    done = f"{batch.progress:.0%} of {batch.size}"
    return done if batch.eta_seconds is None else f"{done}, about {batch.eta_seconds:.0f} s left"


def summary(batch: Batch) -> str:
    """What became of it, in one line."""
    counts = [f"{n} {state.lower()}" for state in STATES if (n := batch.counts.get(state, 0))]
    reused = f"; {batch.reused} reused" if batch.reused else ""
    return f"{batch.batch_id}  {batch.status}  {', '.join(counts)}{reused}"


def listed(batches: list[Batch]) -> Table:
    widths = {"batch": 36, "status": 7, "done": 12, "created": 11, "name": 12}
    table = Table(*(Column(n, min_width=w, no_wrap=True) for n, w in widths.items()), box=None)
    for batch in batches:
        created = f"{batch.created_at.astimezone():%m-%d %H:%M}"
        done = f"{batch.raw['progress']['done']}/{batch.size}"
        table.add_row(batch.batch_id, batch.status, done, created, batch.name or "")
    return table


def show_accepted(batch: Batch) -> None:
    made = batch.size - batch.reused
    said = f"{batch.size} orders, {made} to make" + (
        f", {batch.reused} reused" * (made < batch.size)
    )
    err.print(said, markup=False, soft_wrap=True)
    out.print(batch.batch_id)


def show_plan(plan: Any) -> None:
    seconds = plan["estimated_seconds"]
    took = "nobody knows yet how long" if seconds is None else f"about {seconds:.0f} s"
    out.print(
        f"{plan['size']} orders: {plan['to_make']} to make, {plan['reused']['count']} reused; {took}"
    )
    if not plan["possible"]:
        err.print(f"it would not be served: {plan['reason']}", markup=False, soft_wrap=True)
        raise typer.Exit(1)


def show_failed(batch: Batch) -> None:
    for failed in batch.failed[:SHOWN]:
        line = f"row {failed['row']}  {failed['code']}  {failed['detail']}"
        err.print(line, markup=False, soft_wrap=True)
    if (more := batch.counts.get("FAILURE", 0) - SHOWN) > 0:
        err.print(f"and {more} more", markup=False)


def each_line(error: Rejected) -> Exception:
    """Of several errors, a line each; what then ends the command."""
    if len(error.errors) < 2:
        return error
    for line in error.lines:
        err.print(line, markup=False, soft_wrap=True)
    err.print("Nothing was ordered.", markup=False)
    return typer.Exit(1)
