"""seam: the score tells tiles from cuts, and the repair makes tiles of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serve_app.finishing.picture import Picture
from serve_app.finishing.seam import PASS, Seam, mended, seam_scores
from tests.finishing.sprites import opaque


def stone(seed: int) -> NDArray[np.float64]:
    """Tileable noise with 1/f strength, 256 x 256 x 3."""
    rng = np.random.default_rng(seed)
    f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None])
    f[0, 0] = 1
    wave = np.fft.fft2(rng.normal(size=(256, 256))) / f
    wave[0, 0] = 0
    value = np.fft.ifft2(wave).real
    return np.repeat((128 + 40 * value / value.std())[..., None], 3, axis=2)


def cropped(seed: int) -> Picture:
    return opaque(stone(seed)[17:185, 31:219])


@pytest.mark.parametrize("seed", range(5))
def test_a_tile_passes_and_a_cropped_one_does_not(seed: int) -> None:
    assert max(seam_scores(opaque(stone(seed)).pixels).values()) <= PASS
    assert max(seam_scores(cropped(seed).pixels).values()) > PASS


@pytest.mark.parametrize("seed", range(5))
def test_the_repair_closes_both_seams(seed: int) -> None:
    result = Seam().apply(cropped(seed))
    assert max(seam_scores(result.pixels).values()) <= PASS
    numbers = result.notes[-1].numbers
    assert numbers["x_after"] <= PASS < max(numbers["x_before"], numbers["y_before"])


def test_the_repaired_strips_are_as_grainy_as_the_rest() -> None:
    """Two grains averaged would leave smooth bands, which show when the tile repeats."""
    after = Seam().apply(cropped(0)).rgb[..., 0].astype(float)
    grain = np.abs(np.diff(after, axis=0))
    middle = after.shape[1] // 2
    assert grain[:, middle - 12 : middle + 12].mean() > 0.9 * grain[:, :40].mean()


def test_no_new_seam_appears_inside() -> None:
    """Rolled by half, the old border lies in the middle: it must be as smooth as everything else."""
    result = Seam().apply(cropped(1)).pixels
    half = np.roll(result, (result.shape[0] // 2, result.shape[1] // 2), axis=(0, 1))
    assert max(seam_scores(half).values()) <= PASS


def test_a_tile_is_left_as_it_is() -> None:
    tile = opaque(stone(2))
    assert np.array_equal(Seam().apply(tile).pixels, tile.pixels)


def test_one_axis_can_be_chosen() -> None:
    before = seam_scores(cropped(3).pixels)
    after = seam_scores(Seam(axis="x", limit=0).apply(cropped(3)).pixels)
    assert after["x"] < before["x"]
    assert after["y"] == pytest.approx(before["y"], rel=0.3)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 5)])
def test_tiny_pictures_are_mended_without_trouble(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), dtype=np.uint8)
    assert Seam(limit=0).apply(Picture(pixels)).pixels.shape == (*size, 4)


def test_a_strip_wider_than_the_picture_is_as_wide_as_it() -> None:
    image = Image.linear_gradient("L").resize((40, 40)).convert("RGBA")
    assert mended(np.asarray(image), 1000).shape == (40, 40, 4)
