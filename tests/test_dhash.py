"""The bits of a picture's look."""

from __future__ import annotations

import numpy as np
from PIL import Image

from serve_app.dhash import dhash


def columns(*levels: int) -> Image.Image:
    """90 x 80 pixels in upright stripes of these levels."""
    stripe = np.repeat(np.array(levels, np.uint8), 90 // len(levels))
    return Image.fromarray(np.tile(stripe, (80, 1)))


def test_each_bit_is_a_field_that_is_brighter_than_its_left_neighbour() -> None:
    """The highest bit is the field at the top left."""
    assert dhash(columns(*range(10, 100, 10))) == 2**64 - 1
    assert dhash(columns(*range(90, 0, -10))) == 0
    top = np.zeros((80, 90), np.uint8)
    top[:10] = np.asarray(columns(*range(10, 100, 10)))[:10]
    assert dhash(Image.fromarray(top)) >> 56 == 0xFF


def test_size_and_lightness_do_not_count_and_a_mirror_does() -> None:
    stripes = columns(20, 60, 90, 200, 100, 120, 130, 150, 190)
    assert dhash(stripes.resize((900, 800), Image.Resampling.NEAREST)) == dhash(stripes)
    darker = Image.fromarray(np.asarray(stripes) // 2 + 20)
    assert dhash(darker) == dhash(stripes)
    mirrored = stripes.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert (dhash(mirrored) ^ dhash(stripes)).bit_count() > 20
