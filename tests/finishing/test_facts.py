"""pivot and nine_slice: effects that find facts and leave the pixels alone."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from serve_app.finishing.nine_slice import NineSlice
from serve_app.finishing.picture import Picture
from serve_app.finishing.pivot import Pivot
from tests.finishing.sprites import sprite


def button(width: int, height: int, borders: tuple[int, int, int, int]) -> Picture:
    """Noise in the corners and along the edges' width; every line between the borders is alike."""
    rng = np.random.default_rng(0)
    left, top, right, bottom = borders
    across = np.concatenate([np.arange(left), np.full(width - left - right, left),
                             np.arange(left, left + right)])  # fmt: skip
    down = np.concatenate([np.arange(top), np.full(height - top - bottom, top),
                           np.arange(top, top + bottom)])  # fmt: skip
    tile = rng.integers(0, 256, (top + bottom + 1, left + right + 1, 4), dtype=np.uint8)
    tile[..., 3] = 255
    return Picture(tile[down][:, across])


def test_borders_lie_around_what_stretches() -> None:
    picture = button(40, 30, (5, 4, 7, 6))
    result = NineSlice().apply(picture)
    assert result.borders is not None
    left, top, right, bottom = result.borders
    assert (left, top, right + left, bottom + top) == (5, 4, 12 - 1, 10 - 1)
    assert np.array_equal(result.pixels, picture.pixels)


def test_a_sprite_has_no_borders_and_is_told_so() -> None:
    result = NineSlice().apply(sprite(128, noise=3).drawn)
    assert result.borders is None
    assert result.notes[-1].code == "nine_slice_not_found"


def test_colours_under_transparent_pixels_do_not_count() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    assert NineSlice().apply(Picture(pixels)).borders is not None


def test_an_anchor_becomes_a_point() -> None:
    assert Pivot(anchor="bottom").apply(sprite(64).drawn).pivot == (32, 64)


def test_shares_become_a_point() -> None:
    result = Pivot(x=0.25, y=0.5).apply(sprite(64).drawn)
    assert (result.pivot, result.anchor) == ((16, 32), (0.25, 0.5))


@pytest.mark.parametrize("fields", [{}, {"x": 0.5}, {"anchor": "top", "x": 0.5, "y": 0.5}])
def test_a_pivot_is_given_in_one_way(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Pivot.model_validate(fields)
