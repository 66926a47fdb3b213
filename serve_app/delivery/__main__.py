"""`python -m serve_app.delivery FOLDER --out sheet.zip`: a folder of PNGs as a sheet.

Knows nothing of the service, which does not have to run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve_app.delivery.archive import files, zipped
from serve_app.delivery.folder import clip_of, read_folder
from serve_app.delivery.names import safe_name
from serve_app.delivery.sheet import pack
from serve_app.delivery.spec import FORMATS, spec_of
from serve_app.errors import InvalidField


def main(
    folder: Annotated[Path, typer.Argument(help="Its PNGs become the sheet.")],
    out: Annotated[Path, typer.Option(help="The ZIP to write.")],
    formats: Annotated[
        list[str] | None, typer.Option("--format", help=f"Repeatable: {', '.join(FORMATS)}.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the files; else the ZIP's.")] = None,
    clip: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable: walk=hero_walk_*@12, or ...@12,once."),
    ] = None,
    padding: Annotated[int, typer.Option(help="Pixels between sprites.")] = 2,
    extrude: Annotated[int, typer.Option(help="Pixels of a sprite's edge, repeated.")] = 0,
    max_size: Annotated[int, typer.Option(help="Of a page's sides, in pixels.")] = 4096,
    power_of_two: Annotated[bool, typer.Option("--power-of-two")] = False,
    no_trim: Annotated[bool, typer.Option("--no-trim", help="Keep transparent rims.")] = False,
    nearest: Annotated[bool, typer.Option("--nearest", help="For pixel art.")] = False,
) -> None:
    """Pack a folder of PNGs into one sheet, with the files that engines read."""
    try:
        sprites = read_folder(folder)
        spec = spec_of({
            "name": name or safe_name(out.stem),
            "formats": formats or ["texturepacker_hash"],
            "clips": [clip_of(text, [sprite.name for sprite in sprites]) for text in clip or []],
            "padding": padding,
            "extrude": extrude,
            "max_size": max_size,
            "power_of_two": power_of_two,
            "trim": not no_trim,
            "filter": "nearest" if nearest else "linear",
        })  # fmt: skip
        sheet = pack(sprites, spec)
        content = files(sheet)
        out.write_bytes(zipped(content))
    except InvalidField as error:
        allowed = f" Allowed: {', '.join(map(str, error.allowed))}." if error.allowed else ""
        typer.echo(f"{error.detail}{allowed}", err=True)
        raise typer.Exit(2) from error
    except OSError as error:
        typer.echo(f"{error.filename}: {error.strerror}", err=True)
        raise typer.Exit(2) from error
    pages = ", ".join(f"{page.file} {page.width}x{page.height}" for page in sheet.pages)
    typer.echo(f"{out}: {len(sheet.frames)} sprites on {pages}; {len(content)} files")
    for note in sheet.notes:
        typer.echo(f"note: {note}")


if __name__ == "__main__":
    typer.run(main)
