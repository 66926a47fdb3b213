"""stores: `assets store copy`, for whoever moves to Redis or back.

The work is done in `tools/store_copy.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from serve_app.cli.printing import err, out
from serve_app.config import user_path
from serve_app.errors import StorageFailed
from serve_app.tools.store_copy import End, FileEnd, RedisEnd
from serve_app.tools.store_copy import copy as copy_pages

app = typer.Typer(help="Move the job store between a disk and Redis.", no_args_is_help=True)


@app.callback()
def store() -> None:
    """Without it, typer would make the only command the name of the group."""


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A state_dir, or redis://...")],
    to: Annotated[str, typer.Argument(metavar="TO", help="The same; no store may be there.")],
    prefix: Annotated[str, typer.Option(help="`redis_prefix` of the keys.")] = "assets",
    vouched: Annotated[bool, typer.Option("--vouched", help="As `redis_vouched`.")] = False,
) -> None:
    """Copy a job store that nobody uses, and check the copy by its hash. Give the same command again, and a
    copy that was stopped goes on."""

    def end(name: str) -> End:
        if name.startswith(("redis://", "rediss://", "unix://")):
            return RedisEnd(name, prefix, vouched=vouched)
        return FileEnd(user_path(name).absolute() if name else Path())

    def shown(firsts: Iterable[int], count: int) -> Iterable[int]:
        return track(
            firsts, "Pages", count, console=err, transient=True, disable=not err.is_terminal
        )

    try:
        shape = copy_pages(end(source), end(to), shown)
    except (sqlite3.Error, OSError) as error:
        raise StorageFailed(f"the copy stopped: {error}") from error
    mib = shape.pages * shape.page_size / 2**20
    err.print(f"{shape.pages} pages, {mib:.1f} MiB; the one that was copied is as it was")
    out.print(shape.sha256)
