"""A folder of PNGs as sprites, and clips named on a command line.

Knows nothing of the service.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from serve_app.delivery.names import natural_key, safe_name
from serve_app.delivery.sheet import refuse_too_much
from serve_app.delivery.sprite import Sprite, png_size
from serve_app.errors import InvalidField

_CLIP = re.compile(r"(?P<name>[^=]+)=(?P<glob>[^@]+)@(?P<fps>[0-9.]+)(?P<once>,once)?")


def read_folder(folder: Path) -> list[Sprite]:
    """In natural order of file names, which become safe names. Folders within are not read.

    Raises InvalidField: no PNG, too many or too large ones, one that cannot be read, two whose safe
    names are equal.
    """
    if not folder.is_dir():
        raise InvalidField("folder", f"{folder} is no folder")
    paths = sorted(
        (path for path in folder.iterdir() if path.suffix.lower() == ".png" and path.is_file()),
        key=lambda path: natural_key(path.stem),
    )
    if not paths:
        raise InvalidField("folder", f"{folder} holds no PNG")
    refuse_too_much([_size(path) for path in paths])
    sprites: dict[str, Sprite] = {}
    for path in paths:
        name = safe_name(path.stem)
        if name in sprites:
            raise InvalidField("folder", f"{path.name} and another file both become {name!r}")
        sprites[name] = Sprite.from_png(name, path.read_bytes())
    return list(sprites.values())


def _number(text: str) -> float | str:
    """As it is if it is none: the spec says what is allowed."""
    try:
        return float(text)
    except ValueError:
        return text


def _size(path: Path) -> tuple[int, int]:
    """From the header, before any pixel is unpacked."""
    with path.open("rb") as file:
        return png_size(path.name, file.read(24))


def clip_of(text: str, names: Sequence[str]) -> dict[str, Any]:
    """`walk=hero_walk_*@12` as a clip: the frames that match, in natural order. `,once` at the end:
    it does not loop. Raises InvalidField."""
    match = _CLIP.fullmatch(text)
    if match is None:
        raise InvalidField("clip", f"{text!r} is not NAME=FRAMES@FPS, as walk=hero_walk_*@12")
    frames = [name for name in names if fnmatchcase(name, match["glob"])]
    if not frames:
        raise InvalidField(
            "clip", f"{text!r}: no frame matches", sorted(names, key=natural_key)[:20]
        )
    return {
        "name": match["name"],
        "frames": sorted(frames, key=natural_key),
        "fps": _number(match["fps"]),
        "loop": match["once"] is None,
    }
