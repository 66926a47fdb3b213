"""provenance: `assets inspect`.

Works on files of this machine; no server is asked.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.artifacts.imprint import MAX_PIXELS
from serve_app.artifacts.inspection.inspect import C2pa, Inspected, inspect
from serve_app.artifacts.inspection.recipe import Recipe
from serve_app.cli.options import home_path
from serve_app.cli.printing import out, show_notes
from serve_app.errors import ConfigError, InvalidField

MAX_BYTES = 256 * 2**20

File = Annotated[Path, typer.Argument(parser=home_path, metavar="FILE", help="PNG, WebP or JPEG.")]


def inspect_file(
    file: File,
    as_json: Annotated[
        bool, typer.Option("--json", help="All of it, with an order that can be sent.")
    ] = False,
    trust: Annotated[
        Path | None,
        typer.Option(parser=home_path, help="PEM of roots whose content credentials you trust."),
    ] = None,
) -> None:
    """Say what made a picture: a file of this service, or of seven other programs."""
    found = read(file, "" if trust is None else read_file(trust).decode("ascii", "replace"))
    if as_json:
        out.print_json(json.dumps(as_values(found)))
        return
    out.print(f"{found.format}  {found.width}x{found.height}  {found.size_bytes} bytes")
    out.print(f"made by  {maker(found)}")
    if found.recipe is not None:
        for name, value in said(found.recipe).items():
            out.print(f"{name}  {value}")
    if found.c2pa is not None:
        show_credentials(found.c2pa)
    show_notes(found.notes)


def read_file(file: Path) -> bytes:
    """Raises ConfigError: it cannot be read, or is too large."""
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise ConfigError(f"{file} has {size} bytes; up to {MAX_BYTES} are read")
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error


def show_credentials(c2pa: C2pa) -> None:
    said = c2pa.credentials
    if said is None:
        where = c2pa.remote_url or f"{c2pa.size_bytes} bytes in the file"
        out.print(f"content credentials  {where}; not checked")
        return
    out.print(f"content credentials  {said.state}, signed by {said.signed_by or 'nobody'}")
    for line in (*said.actions, *(f"made of {title}" for title in said.ingredients)):
        out.print(f"  {line}")
    for problem in said.problems:
        out.print(f"  problem: {problem}")


def read(file: Path, anchors: str = "") -> Inspected:
    """Raises ConfigError: it cannot be read, is too large, or is no picture."""
    try:
        return inspect(read_file(file), MAX_PIXELS, anchors)
    except InvalidField as error:
        allowed = ", ".join(map(str, error.allowed or ()))
        raise ConfigError(f"{file} is no picture that can be read: {allowed}") from error


def maker(found: Inspected) -> str:
    if found.recipe is not None:
        return found.recipe.program
    if found.ai_made:
        return f"a model ({found.source_type})"
    return found.software or "unknown: it says nothing"


def said(recipe: Recipe) -> dict[str, Any]:
    """What the file says of how it was made, without what it leaves open."""
    values = dataclasses.asdict(recipe)
    return {
        name: value
        for name, value in values.items()
        if value not in (None, "") and name not in ("program", "record")
    }


def as_values(found: Inspected) -> dict[str, Any]:
    order = found.recipe.order if found.recipe is not None else None
    return {**dataclasses.asdict(found), "ai_made": found.ai_made, "order": order}
