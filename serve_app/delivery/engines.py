"""What an engine wants beside pictures that lie in its project one by one: import settings, and an index.

Knows engines' files; not where the pictures came from. What sheets bring is in `formats/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from xml.sax.saxutils import quoteattr

import numpy as np

from serve_app.delivery.formats.encoding import as_json
from serve_app.delivery.formats.unity import unity
from serve_app.delivery.sheet import Frame, Page, Sheet
from serve_app.delivery.spec import Format, SheetSpec

Engine = Literal["plain", "godot", "unity", "tiled", "phaser"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

READS: Mapping[Engine, tuple[Format, ...] | None] = {
    "plain": None,
    "godot": ("godot",),
    "unity": ("unity",),
    "tiled": ("tiled",),
    "phaser": ("texturepacker_hash", "texturepacker_array"),
}
"""The formats of a sheet that an engine reads; None: all there are."""

_GODOT_IMPORT = b"""[remap]

importer="texture"
type="CompressedTexture2D"

[params]

compress/mode=0
mipmaps/generate=false
process/fix_alpha_border=true
detect_3d/compress_to=0
"""
"""Godot fills in the rest. It must not be written over what the editor has made of it."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A picture in the folder. `number` never changes and is no other one's; `key` is what ids are made of.
    `atlas`: of a page of a sheet, the JSON that describes it."""

    path: str  # relative to the folder, with forward slashes
    width: int
    height: int
    number: int
    key: str
    atlas: str = ""

    @property
    def name(self) -> str:
        return self.path.removesuffix(".png").removesuffix(".webp")


def beside(engine: Engine, picture: Delivered) -> dict[str, bytes]:
    """Path -> content of what goes with one picture, and is written only where there is nothing yet."""
    match engine:
        case "godot":
            return {f"{picture.path}.import": _GODOT_IMPORT}
        case "unity" if not picture.atlas:
            return unity(_alone(picture))
        case _:
            return {}


def index(engine: Engine, pictures: Sequence[Delivered]) -> dict[str, bytes]:
    """Path -> content of what names all pictures, made anew each time."""
    match engine:
        case "phaser":
            return {"assets.json": as_json({"assets": {"files": [_loaded(p) for p in pictures]}})}
        case "tiled":
            alone = sorted((p for p in pictures if not p.atlas), key=lambda p: p.number)
            return {"assets.tsx": _collection(alone)} if alone else {}
        case _:
            return {}


def _alone(picture: Delivered) -> Sheet:
    """As a sheet of one page that is one sprite, which is how Unity's importer sees it."""
    pixels = np.zeros((picture.height, picture.width, 4), np.uint8)
    frame = Frame(
        name=picture.name.rpartition("/")[2],
        page=0,
        x=0,
        y=0,
        pixels=pixels,
        trim_x=0,
        trim_y=0,
        source_width=picture.width,
        source_height=picture.height,
        pivot=(0.5, 0.5),
        borders=None,
    )
    page = Page(picture.path, picture.width, picture.height)
    return Sheet(SheetSpec(), picture.key, (page,), (frame,), None)


def _loaded(picture: Delivered) -> dict[str, str]:
    """An entry of Phaser's pack file."""
    if picture.atlas:
        return {
            "type": "atlas",
            "key": picture.name,
            "textureURL": picture.path,
            "atlasURL": picture.atlas,
        }
    return {"type": "image", "key": picture.name, "url": picture.path}


def _collection(pictures: Sequence[Delivered]) -> bytes:
    """A Tiled tileset of single images. A tile's id is the picture's number, so maps keep theirs."""
    width = max(picture.width for picture in pictures)
    height = max(picture.height for picture in pictures)
    tiles = [
        f' <tile id="{p.number}">\n  <image source={quoteattr(p.path)} width="{p.width}" '
        f'height="{p.height}"/>\n </tile>'
        for p in pictures
    ]
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<tileset version="1.10" name="assets" tilewidth="{width}" tileheight="{height}" '
        f'tilecount="{len(pictures)}" columns="0">\n <grid orientation="orthogonal" width="1" height="1"/>'
    )
    return ("\n".join([head, *tiles, "</tileset>"]) + "\n").encode()
