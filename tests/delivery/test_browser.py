"""Engines of the web draw our sheets: each frame as its sprite, pixel for pixel; clips and facts too."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from serve_app.delivery.archive import files
from serve_app.delivery.sheet import Sheet
from serve_app.delivery.sprite import Pixels
from tests.delivery.art import CELL, COLUMNS, cast_sheet, decode, wrong_cells
from tests.delivery.conftest import Visit

pytestmark = pytest.mark.browser

SEVERAL_PAGES = {"max_size": 64}
WALK = ["walk_0", "walk_1", "walk_2", "walk_1"]
LAND = ["walk_1", "walk_0"]


def plan(sheet: Sheet, names: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """What a page of readers/ is asked to show."""
    frames = names or [frame.name for frame in sheet.frames]
    rows = -(-len(frames) // COLUMNS)
    size = [CELL * COLUMNS, CELL * rows]
    return {"frames": frames, "cell": CELL, "columns": COLUMNS, "size": size, **more}


def picture(seen: dict[str, Any]) -> Pixels:
    return decode(base64.b64decode(seen["picture"].partition(",")[2]))


def in_phaser(visit: Visit, sheet: Sheet, load: list[list[str]], **more: Any) -> dict[str, Any]:
    tab = visit("phaser.html", files(sheet))
    return tab.evaluate("plan => show(plan)", plan(sheet, load=load, **more))


def in_pixi(visit: Visit, sheet: Sheet, url: str) -> dict[str, Any]:
    tab = visit("pixi.html", files(sheet))
    return tab.evaluate("plan => show(plan)", plan(sheet, url=url))


def test_phaser_draws_the_hash(visit: Visit) -> None:
    sheet = cast_sheet("texturepacker_hash")
    seen = in_phaser(visit, sheet, [["atlas", "sheet", "sheet.png", "sheet.json"]])
    assert wrong_cells(picture(seen), list(sheet.frames)) == []


def test_phaser_draws_the_array(visit: Visit) -> None:
    sheet = cast_sheet("texturepacker_array")
    seen = in_phaser(visit, sheet, [["atlas", "sheet", "sheet.png", "sheet.array.json"]])
    assert wrong_cells(picture(seen), list(sheet.frames)) == []


def test_phaser_draws_an_array_of_several_pages(visit: Visit) -> None:
    sheet = cast_sheet("texturepacker_array", **SEVERAL_PAGES)
    assert len(sheet.pages) > 1
    seen = in_phaser(visit, sheet, [["multiatlas", "sheet", "sheet.array.json"]])
    assert wrong_cells(picture(seen), list(sheet.frames)) == []


def test_phaser_knows_size_pivot_and_nine_slice(visit: Visit) -> None:
    sheet = cast_sheet("texturepacker_hash")
    seen = in_phaser(visit, sheet, [["atlas", "sheet", "sheet.png", "sheet.json"]])
    assert [fact["size"] for fact in seen["facts"]] == [
        [frame.source_width, frame.source_height] for frame in sheet.frames
    ]
    assert seen["facts"][0]["pivot"] == [0.5, 1]
    assert seen["facts"][3]["scale9"] == {"x": 5, "y": 6, "w": 28, "h": 10}


def test_phaser_plays_the_clips(visit: Visit) -> None:
    atlas = ["atlas", "sheet", "sheet.png", "sheet.json"]
    clips = in_phaser(visit, cast_sheet("texturepacker_hash"),
                      [atlas, ["animation", "clips", "sheet.anims.json"]])["clips"]  # fmt: skip
    assert (clips["walk"]["frames"], clips["walk"]["fps"], clips["walk"]["repeat"]) == (
        WALK,
        12,
        -1,
    )
    assert (clips["land"]["frames"], clips["land"]["fps"], clips["land"]["repeat"]) == (
        LAND,
        7.5,
        0,
    )


def test_phaser_plays_aseprite_tags(visit: Visit) -> None:
    sheet = cast_sheet("aseprite")
    seen = in_phaser(visit, sheet, [["aseprite", "sheet", "sheet.png", "sheet.aseprite.json"]],
                     names=["0", "1", "2", "3", "4", "5"])  # fmt: skip
    by_name = {frame.name: frame for frame in sheet.frames}
    assert wrong_cells(picture(seen), [by_name[name] for name in WALK + LAND]) == []
    assert seen["clips"]["walk"]["frames"] == ["0", "1", "2", "3"]
    assert seen["clips"]["walk"]["ms"] == [83, 83, 83, 83]
    assert seen["clips"]["land"]["frames"] == ["4", "5"]


def test_pixi_draws_the_hash(visit: Visit) -> None:
    sheet = cast_sheet("texturepacker_hash")
    assert wrong_cells(picture(in_pixi(visit, sheet, "sheet.json")), list(sheet.frames)) == []


def test_pixi_draws_a_hash_of_several_pages_from_the_first(visit: Visit) -> None:
    sheet = cast_sheet("texturepacker_hash", **SEVERAL_PAGES)
    assert len(sheet.pages) > 1
    assert wrong_cells(picture(in_pixi(visit, sheet, "sheet_0.json")), list(sheet.frames)) == []


def test_pixi_knows_size_pivot_borders_and_clips(visit: Visit) -> None:
    sheet = cast_sheet("texturepacker_hash")
    seen = in_pixi(visit, sheet, "sheet.json")
    assert [fact["size"] for fact in seen["facts"]] == [
        [frame.source_width, frame.source_height] for frame in sheet.frames
    ]
    assert seen["facts"][0]["pivot"] == [0.5, 1]
    assert seen["facts"][3]["borders"] == {"left": 5, "top": 6, "right": 7, "bottom": 8}
    assert seen["clips"] == {"walk": WALK, "land": LAND}


@pytest.mark.parametrize("spec", [{}, SEVERAL_PAGES], ids=["one page", "several"])
def test_a_page_in_chromium_shows_the_css(visit: Visit, spec: dict[str, Any]) -> None:
    sheet = cast_sheet("css", **spec)
    tab = visit("css.html", files(sheet))
    sizes = tab.evaluate("plan => show(plan)", plan(sheet, url="sheet.css", prefix="sheet-"))
    assert sizes == [[frame.source_width, frame.source_height] for frame in sheet.frames]
    shown = decode(tab.screenshot(omit_background=True))
    assert wrong_cells(shown, list(sheet.frames)) == []


def test_css_plays_a_clip_at_its_rate_and_holds_the_end_of_one_that_ends(visit: Visit) -> None:
    sheet = cast_sheet("css")
    tab = visit("css.html", files(sheet))
    tab.evaluate("plan => show(plan)", plan(sheet, url="sheet.css", prefix="sheet-"))
    where = {frame.name: f"-{frame.x}px -{frame.y}px" for frame in sheet.frames}
    walk = {"name": "sheet--walk", "times": [0, 82, 84, 167, 251, 334]}
    assert tab.evaluate("clip => play(clip)", walk) == [
        where[name] for name in ("walk_0", "walk_0", "walk_1", "walk_2", "walk_1", "walk_0")
    ]
    land = {"name": "sheet--land", "times": [0, 134, 266, 9_000]}
    assert tab.evaluate("clip => play(clip)", land) == [
        where[name] for name in ("walk_1", "walk_0", "walk_0", "walk_0")
    ]
