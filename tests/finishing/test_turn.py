"""flip and rotate: pixels, pivot and borders turn together."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from PIL import Image

from serve_app.finishing.picture import Borders, Picture
from serve_app.finishing.turn import Flip, Rotate


def picture() -> Picture:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8)
    return Picture(pixels, pivot=(1, 4), borders=Borders(1, 2, 3, 0))


def by_pillow(how: Image.Transpose) -> np.ndarray:
    return np.asarray(Image.fromarray(picture().pixels).transpose(how))


@pytest.mark.parametrize(
    ("degrees", "how"),
    [
        (90, Image.Transpose.ROTATE_270),  # Pillow counts the other way round
        (180, Image.Transpose.ROTATE_180),
        (270, Image.Transpose.ROTATE_90),
    ],
)
def test_rotate_turns_clockwise(degrees: Literal[90, 180, 270], how: Image.Transpose) -> None:
    assert np.array_equal(Rotate(degrees=degrees).apply(picture()).pixels, by_pillow(how))


def test_flip_mirrors_left_and_right_or_top_and_bottom() -> None:
    across = Flip().apply(picture())
    down = Flip(axis="vertical").apply(picture())
    assert np.array_equal(across.pixels, by_pillow(Image.Transpose.FLIP_LEFT_RIGHT))
    assert np.array_equal(down.pixels, by_pillow(Image.Transpose.FLIP_TOP_BOTTOM))


def test_pivot_and_borders_turn_along() -> None:
    turned = Rotate(degrees=90).apply(picture())
    assert turned.pivot == (0, 1)
    assert turned.borders == Borders(left=0, top=1, right=2, bottom=3)


def test_pivot_and_borders_are_mirrored_along() -> None:
    down = Flip(axis="vertical").apply(picture())
    assert down.pivot == (1, 0)
    assert down.borders == Borders(left=1, top=0, right=3, bottom=2)
    assert Flip().apply(picture()).borders == Borders(left=3, top=2, right=1, bottom=0)


def test_four_quarters_are_none() -> None:
    result = picture()
    for _ in range(4):
        result = Rotate(degrees=90).apply(result)
    assert np.array_equal(result.pixels, picture().pixels)
    assert result.pivot == picture().pivot
