"""Picture: sizes, limits, and how pivot and borders follow the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from serve_app.finishing.picture import Borders, EffectFailed, Note, Picture


def blank(width: int, height: int) -> Picture:
    return Picture(np.zeros((height, width, 4), np.uint8))


def test_an_image_without_alpha_is_opaque() -> None:
    picture = Picture.from_image(Image.new("RGB", (3, 2), (1, 2, 3)))
    assert picture.pixels.tolist() == [[[1, 2, 3, 255]] * 3] * 2
    assert picture.to_image().mode == "RGB"


def test_a_palette_image_with_transparency_keeps_it() -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    picture = Picture.from_image(image.quantize(4))
    assert picture.alpha.tolist() == [[255, 0]]


def test_an_image_past_the_limit_is_refused() -> None:
    with pytest.raises(EffectFailed, match="at most 99 pixels"):
        Picture.from_image(Image.new("RGB", (10, 10)), max_pixels=99)


@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 4), (0, 4, 4)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Picture(np.zeros(shape, np.uint8))


def test_pixels_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        blank(2, 2).pixels[0, 0] = 1


def test_a_very_long_picture_is_refused_though_it_has_few_pixels() -> None:
    with pytest.raises(EffectFailed):
        blank(2, 2).check_room(20_000, 2)


def test_pivot_and_borders_move_with_the_pixels() -> None:
    picture = Picture(np.zeros((10, 10, 4), np.uint8), pivot=(5, 10), borders=Borders(2, 2, 2, 2))
    moved = picture.placed(np.zeros((13, 14, 4), np.uint8), dx=3, dy=1)
    assert moved.pivot == (8, 11)
    assert moved.borders == (5, 3, 3, 4)


def test_pivot_and_borders_grow_with_the_picture() -> None:
    picture = Picture(np.zeros((10, 10, 4), np.uint8), pivot=(5, 10), borders=Borders(2, 1, 2, 1))
    large = picture.scaled(np.zeros((20, 30, 4), np.uint8))
    assert large.pivot == (15, 20)
    assert large.borders == (6, 2, 6, 2)
    assert large.anchor == (0.5, 1.0)


def test_a_note_reads_as_its_code_and_its_sentence() -> None:
    assert str(Note("grid", "A grid was found.")) == "grid: A grid was found."
