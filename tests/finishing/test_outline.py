"""outline and shadow: what is added, where, and that the subject stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.finishing.outline import Outline
from serve_app.finishing.picture import Picture
from serve_app.finishing.shadow import Shadow
from tests.finishing.sprites import sprite


def square(size: int = 12, side: int = 4) -> Picture:
    pixels = np.zeros((size, size, 4), np.uint8)
    low = (size - side) // 2
    pixels[low : low + side, low : low + side] = (200, 40, 40, 255)
    return Picture(pixels)


def test_a_pixel_outline_has_the_four_neighbours() -> None:
    result = Outline(pixels=1, color="#102030").apply(square())
    line = (result.rgb == (16, 32, 48)).all(axis=2) & (result.alpha == 255)
    assert line.sum() == 16  # four sides of four, no corners


def test_the_subject_is_unchanged_by_its_outline() -> None:
    result = Outline(pixels=3, edge="smooth").apply(square(20))
    assert (result.rgb[8:12, 8:12] == (200, 40, 40)).all()


def test_a_smooth_outline_is_round_with_a_soft_edge() -> None:
    result = Outline(pixels=4, edge="smooth").apply(square(40))
    assert result.alpha[14, 18] == 255  # four above the square's corner
    assert 0 < result.alpha[15, 15] < 255  # 4.2 away, on the diagonal
    assert result.alpha[14, 14] == 0


def test_a_subject_at_the_border_gets_room_for_its_line() -> None:
    full = Picture(np.full((4, 4, 4), 255, np.uint8), pivot=(2, 4))
    result = Outline(pixels=2).apply(full)
    assert (result.width, result.height) == (8, 8)
    assert result.pivot == (4, 6)


def test_room_that_is_there_already_is_used() -> None:
    assert Outline(pixels=2).apply(square()).width == 12


def test_soft_sprites_get_a_smooth_line_by_themselves() -> None:
    result = Outline(pixels=2, color="#ff0000").apply(sprite(64).truth)
    assert ((result.alpha > 0) & (result.alpha < 255)).any()


def test_an_empty_picture_gets_no_outline() -> None:
    empty = Picture(np.zeros((5, 5, 4), np.uint8))
    assert not Outline().apply(empty).alpha.any()


def test_a_shadow_falls_to_its_side_at_its_opacity() -> None:
    result = Shadow(dx=6, dy=0, blur=0, opacity=0.5, color="#0000ff").apply(square(24))
    assert result.pixels[12, 18].tolist() == [0, 0, 255, 128]
    assert result.pixels[12, 12].tolist() == [200, 40, 40, 255]


def test_a_shadow_gets_the_room_it_needs() -> None:
    full = Picture(np.full((4, 4, 4), 255, np.uint8))
    result = Shadow(dx=3, dy=-2, blur=1).apply(full)
    assert (result.width, result.height) == (4 + 6, 4 + 1 + 5)
    assert result.alpha[0].max() < 20  # its end is not cut off


@pytest.mark.parametrize("blur", [0.5, 4.0])
def test_a_blurred_shadow_keeps_its_mass(blur: float) -> None:
    result = Shadow(dx=100, dy=0, blur=blur, opacity=1).apply(square(12))
    shadow = result.alpha[:, result.width // 2 :].sum() / 255
    assert shadow == pytest.approx(16, rel=0.1)
