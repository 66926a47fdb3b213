"""sheets: `assets sheet`, which packs finished pictures for an engine and fetches what comes of it.

Knows the fields of such an order; places and formats are the server's matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.cli.mirror import checked
from serve_app.cli.options import ApiKey, Server, To, connect
from serve_app.cli.printing import out, show_notes
from serve_app.cli.pulling import unpacked
from serve_app.cli.watching import bar, goes_on, succeeded
from serve_app.client import SERVER
from serve_app.delivery.names import natural_key
from serve_app.delivery.spec import FORMATS
from serve_app.errors import ConfigError

_ITEM = re.compile(r"(?P<job_id>[^:=]+)(?::(?P<index>[0-9]+))?(?:=(?P<name>.+))?")
_CLIP = re.compile(r"(?P<name>[^=]+)=(?P<frames>[^@]+)@(?P<fps>[0-9.]+)(?P<once>,once)?")


def sheet(
    pictures: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB[:INDEX][=NAME]", help="Or --tag. Without INDEX all of its images."
        ),
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Of all finished jobs with this tag.")] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help=f"Repeatable: {', '.join(FORMATS)}.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the files; default: sheet.")] = None,
    clip: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable: walk=hero_*@12, or walk=hero_0,hero_1@12,once."),
    ] = None,
    padding: Annotated[int | None, typer.Option(help="Pixels between pictures.")] = None,
    extrude: Annotated[int | None, typer.Option(help="Pixels of an edge, repeated.")] = None,
    max_size: Annotated[int | None, typer.Option(help="Of a page's sides, in pixels.")] = None,
    power_of_two: Annotated[bool, typer.Option("--power-of-two")] = False,
    no_trim: Annotated[bool, typer.Option("--no-trim", help="Keep transparent rims.")] = False,
    nearest: Annotated[bool, typer.Option("--nearest", help="For pixel art.")] = False,
    to: To = None,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Pack finished pictures into a sheet, with the files that engines read."""
    items = [item_of(text) for text in pictures or []]
    names = [item["name"] for item in items if item.get("name")]
    spec: dict[str, Any] = {
        "formats": formats,
        "name": name,
        "clips": [clip_of(text, names) for text in clip] if clip else None,
        "padding": padding,
        "extrude": extrude,
        "max_size": max_size,
        "power_of_two": power_of_two or None,
        "trim": False if no_trim else None,
        "filter": "nearest" if nearest else None,
    }
    with connect(server, api_key) as client:
        job = client.sheet(items or None, tag=tag, **spec)
        with goes_on(job), bar(job) as show:
            job = succeeded(client.wait(job.job_id, on_progress=show))
        for page in job.images:
            out.print(f"{client.url(page)}  {page.width}x{page.height}")
            show_notes(page.notes)
        if to is not None:
            for path in written(to, client.archive(job)):
                out.print(str(path.resolve()))


def item_of(text: str) -> dict[str, Any]:
    match = _ITEM.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not JOB, JOB:INDEX, JOB=NAME or JOB:INDEX=NAME")
    index, name = match["index"], match["name"]
    item = {"job_id": match["job_id"], "index": int(index) if index else None, "name": name}
    return {field: value for field, value in item.items() if value is not None}


def clip_of(text: str, names: Sequence[str]) -> dict[str, Any]:
    """A pattern stands for those of `names` that match, in natural order; any other frame for itself."""
    match = _CLIP.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not NAME=FRAMES@FPS, as walk=hero_*@12")
    frames: list[str] = []
    for part in match["frames"].split(","):
        found = [name for name in names if fnmatchcase(name, part)]
        frames += sorted(found, key=natural_key) or [part]
    return {
        "name": match["name"],
        "frames": frames,
        "fps": float(match["fps"]),
        "loop": match["once"] is None,
    }


def written(directory: Path, archive: bytes) -> list[Path]:
    """Every file of the archive, below the folder; what is there already is replaced."""
    paths: list[Path] = []
    for name, data in unpacked(archive).items():
        path = directory / checked(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
        paths.append(path)
    return paths
