"""reproducing: `assets reproduce`, a job or a file made again, and whether it is the same.

A job is compared by the server; a file of this machine is ordered again by its own record, and compared here.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.artifacts.comparison import difference, record_of, what_changed
from serve_app.cli.options import ApiKey, Server, connect, home_path
from serve_app.cli.printing import out
from serve_app.cli.provenance import read_file
from serve_app.cli.watching import finished
from serve_app.client import REPRODUCES_FILE, SERVER, Client
from serve_app.errors import ConfigError

ONE_LEVEL = "One level is what the company of other orders may change; `reproducible: strict` is byte-equal."


def reproduce(
    what: Annotated[str, typer.Argument(metavar="JOB|FILE", help="A job, or a PNG or WebP.")],
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Make the images of a job, or a file, again, and say whether their pixels are the same.

    Ends with 1 if one of them is not.
    """
    with connect(server, api_key) as client:
        same = _job(client, what) if _is_id(what) else _file(client, home_path(what))
    raise typer.Exit(0 if same else 1)


def _job(client: Client, job_id: str) -> bool:
    job = finished(client, client.reproduce(job_id))
    for image in job.images:
        _show(f"image {image.index}", image.reproduction or {})
    return all((image.reproduction or {}).get("match") == "exact" for image in job.images)


def _file(client: Client, file: Path) -> bool:
    """Raises ConfigError: it does not say how it was made."""
    data = read_file(file)
    record = record_of(data)
    order = order_of(record, "png" if data.startswith(b"\x89PNG") else "webp")
    if order is None:
        raise ConfigError(f"{file} has no record of this service, so it cannot be made again")
    order["metadata"] = {REPRODUCES_FILE: hashlib.sha256(data).hexdigest()}
    job = finished(client, client.generate(**order))
    made = client.fetch(job.images[0].url)
    found: dict[str, Any] = {"match": "exact", "reasons": what_changed(record, record_of(made))}
    try:
        apart = difference(data, made)
    except ValueError as error:
        found |= {"match": "differs", "reasons": [*found["reasons"], f"other_size: {error}"]}
    else:
        if apart is not None:
            left, top, width, height = apart.box
            where = {"x": left, "y": top, "width": width, "height": height}
            one = {"max_difference": apart.levels, "differing": apart.share, "where": where}
            found |= {"match": "differs", "files": [one]}
    _show(file.name, found)
    return found["match"] == "exact"


def order_of(record: Mapping[str, Any], format: str) -> dict[str, Any] | None:
    """The order that makes the file again, with all that was done since it was drawn. None: its record does
    not say."""
    if not isinstance(record.get("order"), dict):
        return None
    effects = [effect for step in record.get("finished", []) for effect in step["effects"]]
    return {**record["order"], "effects": effects, "format": format}


def _show(name: str, found: Mapping[str, Any]) -> None:
    out.print(f"{name}  {found.get('match', 'unavailable')}")
    for one in found.get("files", []):
        if where := one.get("where"):
            role = f"{one['role']}: " if "role" in one else ""
            out.print(
                f"  {role}up to {one['max_difference']} levels of 255, in {one['differing']:.2%} of"
                f" the pixels, within {where['width']}x{where['height']} at {where['x']},{where['y']}"
            )
            if one["max_difference"] == 1:
                out.print(f"  {ONE_LEVEL}")
    for reason in found.get("reasons", []):
        out.print(f"  {reason}")


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
