"""bleed: what lies under transparent pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from serve_app.finishing.bleed import Bleed, bleed
from serve_app.finishing.picture import Picture, Pixels


def coin() -> Pixels:
    pixels = np.zeros((40, 40, 4), np.uint8)
    y, x = np.mgrid[0:40, 0:40]
    pixels[(y - 20) ** 2 + (x - 20) ** 2 < 64] = (240, 200, 40, 255)
    return pixels


def test_no_dark_fringe_under_a_bilinear_filter() -> None:
    """An engine interpolates colour and alpha apart: what is half transparent must keep its colour."""
    colors = Image.fromarray(np.ascontiguousarray(bleed(coin())[..., :3]))
    large = np.asarray(colors.resize((160, 160), Image.Resampling.BILINEAR))
    alpha = Image.fromarray(np.ascontiguousarray(coin()[..., 3]))
    edge = np.asarray(alpha.resize((160, 160), Image.Resampling.BILINEAR)) > 0
    assert (np.abs(large[edge].astype(int) - (240, 200, 40)) <= 1).all()


def test_what_is_visible_stays_as_it_is() -> None:
    pixels = coin()
    result = Bleed(radius=3).apply(Picture(pixels)).pixels
    assert np.array_equal(result[pixels[..., 3] > 0], pixels[pixels[..., 3] > 0])
    assert np.array_equal(result[..., 3], pixels[..., 3])


def test_no_colour_is_new() -> None:
    pixels = coin()
    pixels[20, 20] = (1, 2, 3, 255)
    found = {tuple(c) for c in bleed(pixels, 2)[..., :3].reshape(-1, 3).tolist()}
    assert found == {(240, 200, 40), (1, 2, 3)}


def test_a_picture_without_alpha_or_without_anything_stays() -> None:
    full, empty = np.full((3, 3, 4), 255, np.uint8), np.zeros((3, 3, 4), np.uint8)
    assert np.array_equal(bleed(full), full)
    assert np.array_equal(bleed(empty), empty)
