"""Sheets: every sprite is on a page as it came, and what cannot be packed is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.delivery.sheet import (
    MAX_PAGES,
    MAX_PIXELS,
    MAX_SPRITES,
    Sheet,
    draw,
    pack,
    refuse_too_much,
    whole,
)
from serve_app.delivery.spec import SheetSpec, spec_of
from serve_app.delivery.sprite import Borders, Sprite
from serve_app.errors import InvalidField
from tests.delivery.art import CAST, same, sprite, tile_sheet


def refused(sprites: list[Sprite], **spec: object) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        pack(sprites, spec_of(spec))
    return caught.value


@given(
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=12),
    padding=st.integers(0, 3),
    extrude=st.integers(0, 2),
    trim=st.booleans(),
    power_of_two=st.booleans(),
    max_size=st.sampled_from([32, 50, 128]),
)
def test_every_frame_cut_out_of_its_page_is_its_sprite(
    sizes: list[tuple[int, int]], padding: int, extrude: int, trim: bool, power_of_two: bool,
    max_size: int,
) -> None:  # fmt: skip
    sprites = [sprite(f"s{i}", w, h, (w // 4, h // 3, w // 5, 0)) for i, (w, h) in enumerate(sizes)]
    spec = SheetSpec(padding=padding, extrude=extrude, trim=trim, power_of_two=power_of_two,
                     max_size=max_size)  # fmt: skip
    sheet = pack(sprites, spec)
    pages = [draw(sheet, n) for n in range(len(sheet.pages))]
    for one, frame in zip(sprites, sheet.frames, strict=True):
        cut = pages[frame.page][frame.y : frame.y + frame.height, frame.x : frame.x + frame.width]
        back = np.zeros_like(one.pixels)
        back[frame.trim_y :, frame.trim_x :][: frame.height, : frame.width] = cut
        assert same(back, one.pixels)


def test_half_transparent_pixels_keep_their_bytes() -> None:
    noise = np.random.default_rng(5).integers(0, 256, (9, 9, 4), dtype=np.uint8)
    sheet = pack([Sprite("glass", noise)], SheetSpec(trim=False))
    assert np.array_equal(draw(sheet, 0), noise)


def test_extrusion_repeats_the_edge_on_all_sides() -> None:
    one = sprite("tile", 6, 5)
    page = draw(pack([one], SheetSpec(extrude=2)), 0)
    assert np.array_equal(page, np.pad(one.pixels, ((2, 2), (2, 2), (0, 0)), mode="edge"))


def test_between_frames_is_nothing() -> None:
    sheet = pack([sprite("a", 8, 8), sprite("b", 8, 8)], SheetSpec(padding=3))
    assert draw(sheet, 0)[:, 8:11, 3].max() == 0


def test_a_trimmed_frame_is_what_can_be_seen() -> None:
    [frame] = pack([sprite("a", 20, 30, (1, 2, 3, 4))], SheetSpec()).frames
    assert (frame.trim_x, frame.trim_y, frame.width, frame.height) == (1, 2, 16, 24)


def test_a_picture_of_nothing_takes_one_pixel() -> None:
    [frame] = pack([sprite("a", 20, 30, (20, 0, 0, 0))], SheetSpec()).frames
    assert (frame.width, frame.height) == (1, 1)


def test_a_nine_slice_is_not_trimmed() -> None:
    [frame] = pack(
        [sprite("a", 20, 20, (3, 3, 3, 3), borders=Borders(4, 4, 4, 4))], SheetSpec()
    ).frames
    assert not frame.trimmed


def test_frames_keep_the_order_of_the_sprites() -> None:
    assert [frame.name for frame in pack(CAST, SheetSpec()).frames] == [one.name for one in CAST]


def test_what_one_page_does_not_hold_goes_to_the_next() -> None:
    sheet = pack([sprite(f"s{i}", 30, 20 + i) for i in range(5)], SheetSpec(max_size=64))
    assert [page.file for page in sheet.pages] == ["sheet_0.png", "sheet_1.png"]


def test_one_page_has_no_number() -> None:
    assert [page.file for page in pack(CAST, SheetSpec(name="hero")).pages] == ["hero.png"]


def test_sprites_of_one_size_are_a_grid_in_their_order() -> None:
    sheet = tile_sheet("css")
    assert sheet.grid is not None
    for i, frame in enumerate(sheet.frames):
        column, row = i % sheet.grid.columns, i // sheet.grid.columns
        assert frame.x == sheet.grid.margin + column * (16 + sheet.grid.spacing)
        assert frame.y == sheet.grid.margin + row * (12 + sheet.grid.spacing)


def test_a_grid_is_near_a_square() -> None:
    [page] = pack([sprite(f"s{i}", 8, 8) for i in range(13)], SheetSpec(padding=0)).pages
    assert (page.width, page.height) == (32, 32)


def test_sprites_of_several_sizes_are_no_grid() -> None:
    assert pack(CAST, SheetSpec()).grid is None


def test_sprites_that_were_trimmed_to_one_size_are_no_grid() -> None:
    """As tiles they would stand shifted by what was cut."""
    sprites = [sprite("a", 10, 10, (2, 0, 0, 0)), sprite("b", 10, 10, (0, 0, 2, 0))]
    assert pack(sprites, SheetSpec()).grid is None
    assert pack(sprites, SheetSpec(trim=False)).grid is not None


@given(st.integers(1, 30), st.integers(0, 3), st.integers(0, 2), st.booleans())
def test_a_grid_of_any_length_is_the_sprites(
    count: int, padding: int, extrude: int, power_of_two: bool
) -> None:
    sprites = [sprite(f"s{i}", 7, 9) for i in range(count)]
    spec = SheetSpec(padding=padding, extrude=extrude, power_of_two=power_of_two, max_size=40)
    sheet = pack(sprites, spec)
    assert all(max(page.width, page.height) <= 40 for page in sheet.pages)
    assert all(_shown(sheet, i, one) for i, one in enumerate(sprites))


def _shown(sheet: Sheet, i: int, one: Sprite) -> bool:
    frame = sheet.frames[i]
    cut = draw(sheet, frame.page)[frame.y :, frame.x :][: frame.height, : frame.width]
    return np.array_equal(cut, one.pixels)


def test_a_page_of_a_power_of_two_stays_below_a_maximum_that_is_none() -> None:
    sheet = pack([sprite(f"s{i}", 20, 15 + i) for i in range(9)], spec_of(
        {"max_size": 100, "power_of_two": True}))  # fmt: skip
    assert max(max(page.width, page.height) for page in sheet.pages) <= 64


def test_the_sprite_as_it_came_can_be_had_from_its_frame() -> None:
    one = sprite("a", 20, 30, (1, 2, 3, 4))
    assert same(whole(pack([one], SheetSpec()).frames[0]), one.pixels)


def test_a_sheet_of_nothing_is_refused() -> None:
    assert refused([]).field == "items"


def test_a_sheet_of_5000_pictures_is_refused() -> None:
    error = refused([sprite("a", 1, 1)] * 5_000)
    assert error.field == "items"
    assert str(MAX_SPRITES) in error.detail


def test_more_pixels_than_memory_should_hold_are_refused_by_size_alone() -> None:
    with pytest.raises(InvalidField, match=str(MAX_PIXELS)):
        refuse_too_much([(8_192, 8_192), (1, 1)])


def test_a_picture_larger_than_a_page_is_refused_by_name_and_size() -> None:
    error = refused([sprite("small", 4, 4), sprite("huge", 65, 4)], max_size=64)
    assert error.field == "items.1"
    assert "huge" in error.detail
    assert "64x64" in error.detail


def test_extrusion_counts_when_a_picture_must_fit() -> None:
    assert refused([sprite("a", 64, 64)], max_size=64, extrude=1).field == "items.0"


def test_padding_does_not_count_when_a_picture_must_fit() -> None:
    sheet = pack([sprite("a", 64, 64)], SheetSpec(max_size=64, padding=8))
    assert sheet.pages[0].width == 64


@pytest.mark.parametrize("height", [64, 40], ids=["by area", "by packing"])
def test_more_pages_than_a_sheet_has_are_refused(height: int) -> None:
    sprites = [sprite(f"s{i}", 60 + i % 2, height) for i in range(65)]
    error = refused(sprites, max_size=64)
    assert error.field == "max_size"
    assert str(MAX_PAGES) in error.detail


@pytest.mark.parametrize("second", ["hero", "HERO"])
def test_two_frames_of_one_name_are_refused(second: str) -> None:
    error = refused([sprite("hero"), sprite("x"), sprite(second)])
    assert error.field == "items.2.name"


def test_a_clip_of_a_frame_that_is_not_there_names_those_there_are() -> None:
    clip = {"name": "walk", "frames": ["hero", "zero"], "fps": 5}
    error = refused([sprite("hero")], clips=[clip])
    assert error.field == "clips.0.frames.1"
    assert error.allowed == ["hero"]


def test_two_clips_of_one_name_are_refused() -> None:
    clip = {"name": "walk", "frames": ["hero"], "fps": 5}
    assert refused([sprite("hero")], clips=[clip, {**clip, "name": "Walk"}]).field == "clips.1.name"
