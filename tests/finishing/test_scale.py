"""scale: sizes, what each filter keeps, and that nothing hidden shows."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from serve_app.finishing.colors import unique_colors
from serve_app.finishing.picture import EffectFailed, Picture
from serve_app.finishing.scale import Scale, epx
from tests.finishing.sprites import sprite


def noise(width: int, height: int) -> Picture:
    rng = np.random.default_rng(0)
    return Picture(rng.integers(0, 256, (height, width, 4), dtype=np.uint8))


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"factor": 2}, (20, 12)),
        ({"factor": 0.5}, (5, 3)),
        ({"width": 30}, (30, 18)),
        ({"height": 3}, (5, 3)),
        ({"width": 7, "height": 9}, (7, 9)),
        ({"factor": 0.01}, (1, 1)),
    ],
)
def test_the_size_is_what_was_asked(fields: dict[str, float], size: tuple[int, int]) -> None:
    result = Scale.model_validate(fields).apply(noise(10, 6))
    assert (result.width, result.height) == size


def test_nearest_repeats_pixels() -> None:
    small = noise(4, 3)
    large = Scale(factor=3, filter="nearest").apply(small)
    assert np.array_equal(large.pixels[1::3, 1::3], small.pixels)
    assert np.array_equal(large.pixels, small.pixels.repeat(3, axis=0).repeat(3, axis=1))


def test_lanczos_shows_nothing_of_what_is_transparent() -> None:
    """Bright green under alpha 0 would make a green fringe."""
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[..., 1] = 255
    pixels[4:12, 4:12] = (200, 30, 30, 255)
    result = Scale(factor=2).apply(Picture(pixels))
    seen = result.rgb[result.alpha > 16].astype(int)
    assert (seen[:, 1] < 60).all()


def test_lanczos_makes_no_bright_rim() -> None:
    """One flat colour stays that colour, however steep its edge."""
    pixels = np.zeros((24, 24, 4), np.uint8)
    pixels[6:18, 6:18] = (200, 60, 90, 255)
    for factor in (0.4, 2.7):
        result = Scale(factor=factor).apply(Picture(pixels))
        assert (result.rgb[result.alpha > 0] == (200, 60, 90)).all()


def test_epx_adds_no_colour() -> None:
    small = Scale(width=24, filter="nearest").apply(sprite(64).truth)
    large = epx(small.pixels, 4)
    assert large.shape == (96, 96, 4)
    before = {tuple(c) for c in unique_colors(small.rgb.reshape(-1, 3))[0].tolist()}
    assert {tuple(c) for c in unique_colors(large[..., :3].reshape(-1, 3))[0].tolist()} <= before


def test_epx_smooths_a_diagonal() -> None:
    """Of a 2 x 2 checker's corner, the quarter next to two equal neighbours takes their colour."""
    corner = np.zeros((2, 2, 4), np.uint8)
    corner[0, 1] = corner[1, 0] = 255
    assert epx(corner, 2)[1, 1].tolist() == [255] * 4


def test_epx_keeps_flat_areas_and_straight_edges() -> None:
    half = np.zeros((6, 6, 4), np.uint8)
    half[:, 3:] = 255
    assert np.array_equal(epx(half, 2), half.repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize(
    "fields",
    [{}, {"factor": 2, "width": 4}, {"factor": 3, "filter": "epx"}, {"width": 4, "filter": "epx"}],
)
def test_a_size_is_given_in_one_way(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Scale.model_validate(fields)


def test_a_picture_past_the_limit_is_refused() -> None:
    with pytest.raises(EffectFailed, match="32000x19200"):
        Scale(factor=32).apply(noise(1000, 600))
