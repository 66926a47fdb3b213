"""Sprites of one size in rows and columns: a tile is where its number says, and pages stay small."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.delivery.grid import pack_grid
from serve_app.delivery.spec import SheetSpec


def spec(**changes: Any) -> SheetSpec:
    return SheetSpec.model_validate({"name": "tiles", "formats": ["css"], **changes})


def test_sprites_of_several_sizes_are_no_grid() -> None:
    assert pack_grid([(8, 8), (8, 9)], spec(), 64) == (None, [])


@pytest.mark.parametrize(("padding", "extrude"), [(0, 0), (2, 0), (1, 3)])
@pytest.mark.parametrize("count", [1, 5, 9, 30])
def test_a_frame_is_where_its_number_says(count: int, padding: int, extrude: int) -> None:
    """Frame i of a page is in column i % columns and row i // columns, within the page."""
    side = 8 + 2 * extrude
    step = side + padding
    grid, bins = pack_grid([(side, side)] * count, spec(padding=padding, extrude=extrude), 64)
    assert grid is not None
    assert (grid.tile_width, grid.tile_height, grid.margin) == (8, 8, extrude)
    assert [number for page in bins for number in page.places] == list(range(count))
    for page in bins:
        for i, (left, top) in enumerate(page.places.values()):
            assert (left, top) == (i % grid.columns * step, i // grid.columns * step)
            assert max(left, top) + side <= 64
            assert left + side <= page.width
            assert top + side <= page.height


def test_what_one_page_cannot_hold_goes_to_the_next() -> None:
    """A page of 64 holds 16 tiles of 16; the last page is as small as its rest."""
    _, bins = pack_grid([(16, 16)] * 20, spec(padding=0), 64)
    assert [len(page.places) for page in bins] == [16, 4]
    assert (bins[1].width, bins[1].height) == (64, 16)


def test_a_page_of_a_power_of_two_is_one() -> None:
    _, (page,) = pack_grid([(10, 10)] * 5, spec(padding=0, power_of_two=True), 64)
    assert (page.width, page.height) == (32, 32)
