"""Pictures that orders start from: how they are fitted to the order's size, and what a mask means."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve_app.engine.sources import Pixels, source_pixels


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def fitted(image: Image.Image, size: tuple[int, int], kind: str = "PNG") -> Pixels:
    found = source_pixels(saved(image, kind), None, size).picture
    assert found is not None
    return found


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, channels), np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_picture_of_the_order_s_size_is_taken_as_it_is(kind: str) -> None:
    image = noise(8, 6)
    assert np.array_equal(fitted(image, (8, 6), kind), np.asarray(image))


def test_a_larger_one_is_scaled_until_it_covers_and_cut_at_both_sides() -> None:
    """Never stretched: of a wide picture the middle stays."""
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, :64], wide[:, 128:] = (255, 0, 0), (0, 0, 255)
    wide[:, 64:128] = (0, 255, 0)
    found = fitted(Image.fromarray(wide), (32, 32))
    assert found.shape == (32, 32, 3)
    assert (found[:, 4:-4] == (0, 255, 0)).all()
    tall = fitted(Image.fromarray(wide).rotate(90, expand=True), (32, 32))
    assert (tall[4:-4] == (0, 255, 0)).all()


def test_a_smaller_one_is_enlarged() -> None:
    found = fitted(Image.new("RGB", (4, 2), "red"), (32, 32))
    assert (found == (255, 0, 0)).all()


def test_transparent_parts_are_white() -> None:
    """Whatever colour is stored below them."""
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((1, 1), (0, 0, 255, 255))
    found = fitted(image, (4, 4))
    assert tuple(found[1, 1]) == (0, 0, 255)
    assert (np.delete(found.reshape(-1, 3), 5, 0) == 255).all()


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.array([[0, 127], [128, 255]], np.uint8), [[False, False], [True, True]]),
        (np.array([[[9, 9, 9, 255], [9, 9, 9, 0]]] * 2, np.uint8), [[False, True]] * 2),
        (np.array([[[0, 0, 0, 255], [255, 255, 255, 255]]] * 2, np.uint8), [[False, True]] * 2),
    ],
    ids=["grey", "transparent", "opaque"],
)
def test_a_mask_is_white_or_transparent_where_it_is_drawn_anew(mask: Any, expected: Any) -> None:
    found = source_pixels(saved(noise(2, 2)), saved(Image.fromarray(mask)), (2, 2)).mask
    assert found is not None
    assert found.tolist() == expected


def test_a_mask_is_fitted_as_its_picture_is() -> None:
    mask = np.zeros((64, 192), np.uint8)
    mask[:, 64:128] = 255
    size = (32, 32)
    found = source_pixels(saved(noise(192, 64)), saved(Image.fromarray(mask)), size).mask
    assert found is not None
    assert found[:, 2:-2].all()
