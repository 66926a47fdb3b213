"""Tiled and pytiled-parser read our tilesets: each tile drawn as its sprite, animations, names."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytiled_parser
from pytiled_parser import Tileset

from serve_app.delivery.archive import files
from serve_app.delivery.sheet import Sheet, pack, whole
from serve_app.delivery.spec import spec_of
from serve_app.delivery.sprite import Pixels
from serve_app.errors import InvalidField
from tests.delivery.art import CELL, cast_sheet, decode, same, sprite, tile_sheet
from tests.delivery.conftest import program


def write(sheet: Sheet, folder: Path) -> None:
    for path, data in files(sheet).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)


def tiled(*command: str) -> None:
    """Raises CalledProcessError when Tiled does not take a file."""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)


def drawn(folder: Path, tileset: str, tiles: list[int]) -> Pixels:
    """A map that shows these tiles in a row, one in each cell of CELL pixels, as Tiled draws it.
    Tiles of a map stand on the lower edge of their cell."""
    cells = ",".join(str(tile + 1) for tile in tiles)
    (folder / "map.tmx").write_text(
        f'<map version="1.10" orientation="orthogonal" width="{len(tiles)}" height="1" '
        f'tilewidth="{CELL}" tileheight="{CELL}"><tileset firstgid="1" source="{tileset}"/>'
        f'<layer id="1" name="l" width="{len(tiles)}" height="1">'
        f'<data encoding="csv">{cells}</data></layer></map>'
    )
    tiled(
        program("tmxrasterizer", "tiled"),
        "--no-smoothing",
        str(folder / "map.tmx"),
        str(folder / "map.png"),
    )
    return decode((folder / "map.png").read_bytes())


def wrong_tiles(shown: Pixels, sheet: Sheet, n: int) -> list[str]:
    wrong: list[str] = []
    for i, frame in enumerate(sheet.on(n)):
        cell = shown[:CELL, i * CELL : (i + 1) * CELL]
        wanted = np.zeros((CELL, CELL, 4), np.uint8)
        wanted[CELL - frame.source_height :, : frame.source_width] = whole(frame)
        if not same(cell, wanted):
            wrong.append(frame.name)
    return wrong


def ids(path: Path) -> dict[str, int]:
    """Sprite -> tile, as the .tsj says."""
    listed: list[dict[str, Any]] = json.loads(path.read_text())["tiles"]
    return {tile["properties"][0]["value"]: tile["id"] for tile in listed}


WIDER = {
    "extrude": 10,
    "padding": 0,
    "power_of_two": True,
    "max_size": 64,
}  # Tiled sees a column more
GRIDS: list[dict[str, Any]] = [
    {},
    {"max_size": 40},
    {"power_of_two": True},
    {"padding": 0},
    WIDER,
]


@pytest.mark.browser
@pytest.mark.parametrize("ending", ["tsx", "tsj"])
@pytest.mark.parametrize(
    "spec", GRIDS, ids=["one page", "several", "power of two", "no padding", "wider"]
)
def test_tiled_draws_the_tiles_of_a_grid(tmp_path: Path, spec: dict[str, Any], ending: str) -> None:
    sheet = tile_sheet("tiled", **spec)
    write(sheet, tmp_path)
    for n, page in enumerate(sheet.pages):
        stem = page.file.removesuffix(".png")
        known = ids(tmp_path / f"{stem}.tsj")
        tiles = [known[frame.name] for frame in sheet.on(n)]
        assert wrong_tiles(drawn(tmp_path, f"{stem}.{ending}", tiles), sheet, n) == []


@pytest.mark.browser
@pytest.mark.parametrize("ending", ["tsx", "tsj"])
def test_tiled_draws_sprites_of_several_sizes(tmp_path: Path, ending: str) -> None:
    sheet = cast_sheet("tiled")
    write(sheet, tmp_path)
    tiles = list(range(len(sheet.frames)))
    assert wrong_tiles(drawn(tmp_path, f"sheet.{ending}", tiles), sheet, 0) == []


@pytest.mark.browser
def test_tiled_keeps_names_and_animations(tmp_path: Path) -> None:
    """Exported again by Tiled: what it did not understand would be gone."""
    write(tile_sheet("tiled"), tmp_path)
    again = tmp_path / "again.json"
    tiled(
        program("tiled", "tiled"),
        "--export-tileset",
        "json",
        str(tmp_path / "sheet.tsx"),
        str(again),
    )
    known = ids(tmp_path / "sheet.tsj")
    assert ids(again) == known
    shown = [tile.get("animation") for tile in json.loads(again.read_text())["tiles"]]
    wanted = [{"tileid": known[f"tile_{i}"], "duration": 250} for i in (2, 5, 6, 5)]
    assert [one for one in shown if one] == [wanted]


def read(folder: Path, ending: str) -> Tileset:
    return pytiled_parser.parse_tileset(folder / f"sheet.{ending}")


@pytest.mark.parametrize("ending", ["tsx", "tsj"])
def test_pytiled_parser_knows_the_grid(tmp_path: Path, ending: str) -> None:
    sheet = tile_sheet("tiled")
    write(sheet, tmp_path)
    seen = read(tmp_path, ending)
    assert sheet.grid is not None
    assert (seen.tile_width, seen.tile_height) == (16, 12)
    assert (seen.columns, seen.margin, seen.spacing) == (sheet.grid.columns, 1, 4)
    assert (seen.image_width, seen.image_height) == (sheet.pages[0].width, sheet.pages[0].height)


@pytest.mark.parametrize("ending", ["tsx", "tsj"])
def test_pytiled_parser_knows_the_animations(tmp_path: Path, ending: str) -> None:
    write(cast_sheet("tiled"), tmp_path)
    tiles = read(tmp_path, ending).tiles
    assert tiles is not None
    shown = {
        tile.properties["name"]: [(one.tile_id, one.duration) for one in tile.animation]
        for tile in tiles.values()
        if tile.animation and tile.properties
    }
    assert shown == {
        "walk_0": [(0, 83), (1, 83), (2, 83), (1, 83)],
        "walk_1": [(1, 133), (0, 133)],
    }


def test_a_clip_without_a_tile_to_stand_on_is_refused() -> None:
    clips = [{"name": name, "frames": ["a"], "fps": 5} for name in ("one", "two")]
    sheet = pack([sprite("a")], spec_of({"formats": ["tiled"], "clips": clips}))
    with pytest.raises(InvalidField, match="two") as caught:
        files(sheet)
    assert caught.value.field == "clips.1"
