"""Tiled tilesets, .tsx and .tsj: a grid on the page, or a collection of pictures where sizes differ.

Knows the map format 1.10. Tiles on one picture must be a grid for every Tiled before 1.9, so sprites
of several sizes are written as files of their own, whole. A clip is an animation on a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from serve_app.delivery.formats.encoding import as_json, as_png
from serve_app.delivery.grid import Grid
from serve_app.delivery.sheet import Frame, Page, Sheet, whole
from serve_app.delivery.spec import Clip
from serve_app.errors import InvalidField

VERSION = {"version": "1.10", "tiledversion": "1.10.2"}


@dataclass(frozen=True, slots=True)
class _Tile:
    """`image`: of a collection, the tile's own file; empty in a grid. `shows`: tile, milliseconds."""

    id: int
    frame: Frame
    image: str
    shows: list[tuple[int, int]]


def tiled(sheet: Sheet) -> dict[str, bytes]:
    """PAGE.tsx and PAGE.tsj for a grid; NAME.tsx, NAME.tsj and NAME_tiles/SPRITE.png otherwise. A clip
    stands in the tileset that holds all its frames; one spread over pages in none.

    Raises InvalidField when a clip finds no tile to stand on: each tile has one animation.
    """
    files: dict[str, bytes] = {}
    if sheet.grid is not None:
        for n, page in enumerate(sheet.pages):
            tiles = _tiles(sheet, _ids(sheet, n, page, sheet.grid), images=False)
            stem = page.file.removesuffix(".png")
            files |= _both(stem, _grid_facts(stem, page, sheet.grid), tiles)
        return files
    name = sheet.spec.name
    tiles = _tiles(sheet, {frame.name: i for i, frame in enumerate(sheet.frames)}, images=True)
    for tile in tiles:
        files[tile.image] = as_png(whole(tile.frame))
    facts: dict[str, str | int] = {
        "name": name,
        "tilewidth": max(frame.source_width for frame in sheet.frames),
        "tileheight": max(frame.source_height for frame in sheet.frames),
        "spacing": 0,
        "margin": 0,
        "tilecount": len(tiles),
        "columns": 0,
    }
    return files | _both(name, facts, tiles)


def _columns(page: Page, grid: Grid) -> int:
    """As Tiled counts them: by the picture's width, whatever the file says. A page of a power of two
    can have more columns than the grid uses."""
    return (page.width - grid.margin + grid.spacing) // (grid.tile_width + grid.spacing)


def _ids(sheet: Sheet, n: int, page: Page, grid: Grid) -> dict[str, int]:
    columns = _columns(page, grid)
    return {
        frame.name: i // grid.columns * columns + i % grid.columns
        for i, frame in enumerate(sheet.on(n))
    }


def _grid_facts(stem: str, page: Page, grid: Grid) -> dict[str, str | int]:
    columns = _columns(page, grid)
    rows = (page.height - grid.margin + grid.spacing) // (grid.tile_height + grid.spacing)
    return {
        "name": stem,
        "tilewidth": grid.tile_width,
        "tileheight": grid.tile_height,
        "spacing": grid.spacing,
        "margin": grid.margin,
        "tilecount": columns * rows,
        "columns": columns,
        "image": page.file,
        "imagewidth": page.width,
        "imageheight": page.height,
    }


def _tiles(sheet: Sheet, ids: dict[str, int], images: bool) -> list[_Tile]:
    animations: dict[str, list[tuple[int, int]]] = {}
    for clip, owner in _owners(sheet, ids):
        duration_ms = max(1, round(1000 / clip.fps))
        animations[owner] = [(ids[name], duration_ms) for name in clip.frames]
    folder = f"{sheet.spec.name}_tiles"
    return [
        _Tile(
            ids[frame.name],
            frame,
            f"{folder}/{frame.name}.png" if images else "",
            animations.get(frame.name, []),
        )
        for frame in sheet.frames
        if frame.name in ids
    ]


def _owners(sheet: Sheet, ids: dict[str, int]) -> Iterator[tuple[Clip, str]]:
    """Each clip that is all in this tileset, and the first of its tiles that has no animation yet."""
    taken: set[str] = set()
    for i, clip in enumerate(sheet.spec.clips):
        if not set(clip.frames) <= set(ids):
            continue
        owner = next((name for name in clip.frames if name not in taken), None)
        if owner is None:
            raise InvalidField(
                f"clips.{i}",
                f"{clip.name}: in Tiled a tile has one animation, and each of these frames has one "
                "already: leave tiled or the clip out",
            )
        taken.add(owner)
        yield clip, owner


def _both(stem: str, facts: dict[str, str | int], tiles: list[_Tile]) -> dict[str, bytes]:
    return {f"{stem}.tsx": _xml(facts, tiles), f"{stem}.tsj": _json(facts, tiles)}


def _xml(facts: dict[str, str | int], tiles: list[_Tile]) -> bytes:
    image = {key: value for key, value in facts.items() if key.startswith("image")}
    own = {key: str(value) for key, value in facts.items() if key not in image}
    root = ET.Element("tileset", VERSION | own)
    if image:
        _image(root, str(image["image"]), image["imagewidth"], image["imageheight"])
    for tile in tiles:
        element = ET.SubElement(root, "tile", {"id": str(tile.id)})
        properties = ET.SubElement(element, "properties")
        ET.SubElement(properties, "property", {"name": "name", "value": tile.frame.name})
        if tile.image:
            _image(element, tile.image, tile.frame.source_width, tile.frame.source_height)
        if tile.shows:
            animation = ET.SubElement(element, "animation")
            for ident, ms in tile.shows:
                ET.SubElement(animation, "frame", {"tileid": str(ident), "duration": str(ms)})
    ET.indent(root, " ")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "utf-8") + b"\n"


def _image(parent: ET.Element, source: str, width: str | int, height: str | int) -> None:
    ET.SubElement(parent, "image", {"source": source, "width": str(width), "height": str(height)})


def _json(facts: dict[str, str | int], tiles: list[_Tile]) -> bytes:
    listed: list[dict[str, Any]] = []
    for tile in tiles:
        known: dict[str, Any] = {
            "id": tile.id,
            "properties": [{"name": "name", "type": "string", "value": tile.frame.name}],
        }
        if tile.image:
            known |= {
                "image": tile.image,
                "imagewidth": tile.frame.source_width,
                "imageheight": tile.frame.source_height,
            }
        if tile.shows:
            known["animation"] = [{"tileid": i, "duration": ms} for i, ms in tile.shows]
        listed.append(known)
    return as_json({"type": "tileset", **VERSION, **facts, "tiles": listed})
