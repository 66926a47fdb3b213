"""Sprites: what is not a picture, or contradicts itself, is refused by field."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from serve_app.delivery.formats.encoding import as_png
from serve_app.delivery.sprite import Borders, Pixels, Sprite
from serve_app.errors import InvalidField
from tests.delivery.art import sprite

CLEAR = np.zeros((4, 6, 4), np.uint8)


def refused(
    name: str = "a",
    pixels: Pixels = CLEAR,
    pivot: tuple[float, float] = (0.5, 0.5),
    borders: Borders | None = None,
) -> str:
    with pytest.raises(InvalidField) as caught:
        Sprite(name, pixels, pivot, borders)
    return caught.value.field


def test_an_unsafe_name_is_refused() -> None:
    assert refused(name="../x") == "name"


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3), (0, 6, 4), (4, 0, 4), (1, 8193, 4)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    assert refused(pixels=np.zeros(shape, np.uint8)) == "pixels"


def test_pixels_of_another_type_are_refused() -> None:
    assert refused(pixels=CLEAR.astype(np.float32)) == "pixels"  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("pivot", [(float("nan"), 0.5), (0.5, 11), (-11, 0.5)])
def test_a_pivot_far_away_is_refused(pivot: tuple[float, float]) -> None:
    assert refused(pivot=pivot) == "pivot"


@pytest.mark.parametrize(
    "borders", [Borders(3, 0, 3, 0), Borders(0, 2, 0, 2), Borders(-1, 0, 0, 0)]
)
def test_borders_that_leave_no_middle_are_refused(borders: Borders) -> None:
    assert refused(borders=borders) == "borders"


def test_a_png_is_read_as_it_is() -> None:
    one = sprite("a", 5, 7)
    assert np.array_equal(Sprite.from_png("a", as_png(one.pixels)).pixels, one.pixels)


def test_a_png_without_alpha_is_opaque() -> None:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(file, "PNG")
    assert Sprite.from_png("a", file.getvalue()).pixels[..., 3].min() == 255


@pytest.mark.parametrize("cut", [0, 7, 30, 60])
def test_a_png_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(InvalidField, match="not a PNG"):
        Sprite.from_png("a", as_png(sprite("a").pixels)[:cut])


def test_another_kind_of_file_is_refused() -> None:
    with pytest.raises(InvalidField, match="not a PNG"):
        Sprite.from_png("a", b"PK\x03\x04" + bytes(100))


def test_a_png_of_100_megapixels_is_refused_by_its_header() -> None:
    small = bytearray(as_png(CLEAR))
    small[16:24] = (10_000).to_bytes(4, "big") * 2
    with pytest.raises(InvalidField, match="10000x10000"):
        Sprite.from_png("a", bytes(small))


def test_gray_of_16_bits_keeps_its_range() -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], np.uint16)).save(file, "PNG")
    pixels = Sprite.from_png("a", file.getvalue()).pixels
    assert pixels[0, :, 0].tolist() == [0, 128, 255]
