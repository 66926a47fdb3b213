"""palette: every pixel is one of the colours, the nearest one, and dithering keeps to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from serve_app.finishing.colors import elbow, nearest_color, oklab, quantized, unique_colors
from serve_app.finishing.cutout import Cutout
from serve_app.finishing.palette import THRESHOLDS, PaletteEffect, mapped
from serve_app.finishing.picture import EffectFailed, Picture
from tests.finishing.sprites import opaque, sprite

LOCKED = ("#0f380f", "#306230", "#8bac0f", "#9bbc0f")


def colors_of(picture: Picture) -> set[tuple[int, ...]]:
    return {tuple(c) for c in picture.rgb[picture.alpha > 0].tolist()}


def gradient() -> Picture:
    """Black to white over 64 columns, 32 rows."""
    return opaque(np.repeat(np.repeat(np.linspace(0, 255, 64)[None, :, None], 32, 0), 3, 2))


@pytest.mark.parametrize("dither", ["none", "bayer4", "bayer8"])
@pytest.mark.parametrize("colors", [LOCKED, 8, None], ids=["locked", "8", "as few"])
def test_every_pixel_is_in_the_palette_and_alpha_binary(colors: Any, dither: Any) -> None:
    cut = Cutout().apply(sprite(128).drawn)
    result = PaletteEffect(colors=colors, dither=dither).apply(cut)
    found = colors_of(result)
    if colors is LOCKED:
        assert found <= {tuple(bytes.fromhex(c[1:])) for c in LOCKED}
    assert len(found) <= (len(colors) if colors is LOCKED else colors or 64)
    assert set(np.unique(result.alpha)) <= {0, 255}


def test_known_colours_have_their_published_oklab_values() -> None:
    """White, pure red and pure blue, from Ottosson's description."""
    lab = oklab(np.array([[255, 255, 255], [255, 0, 0], [0, 0, 255]], np.uint8))
    expected = [[1, 0, 0], [0.6280, 0.2249, 0.1258], [0.4520, -0.0325, -0.3115]]
    assert np.abs(lab - expected).max() < 2e-4


def test_the_nearest_colour_is_the_nearest_in_oklab() -> None:
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (500, 3), dtype=np.uint8)
    palette = rng.integers(0, 256, (20, 3), dtype=np.uint8)
    index, square = nearest_color(oklab(colors), oklab(palette))
    every = ((oklab(colors)[:, None] - oklab(palette)[None]) ** 2).sum(axis=2)
    assert np.allclose(square, every.min(axis=1), rtol=1e-4)
    assert np.allclose(every[np.arange(500), index], every.min(axis=1), rtol=1e-4)


def test_a_picture_with_few_colours_keeps_them_exactly() -> None:
    rgb = np.array([[1, 2, 3], [4, 5, 6], [250, 0, 9]], np.uint8)
    palette, error = quantized(np.repeat(rgb, 50, axis=0), 3)
    assert (palette.tolist(), error) == (rgb.tolist(), 0)


def test_more_colours_never_fit_much_worse() -> None:
    rgb = sprite(128, noise=8).drawn.rgb.reshape(-1, 3)
    errors = [quantized(rgb, k)[1] for k in (2, 4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)


def test_the_colours_found_fit_better_than_those_of_pillow() -> None:
    """Its median cut, the usual baseline, by the same measure."""
    picture = sprite(128, noise=8).drawn
    rgb = picture.rgb.reshape(-1, 3)
    pillow = np.asarray(picture.to_image().quantize(16).convert("RGB")).reshape(-1, 3)
    _, square = nearest_color(oklab(rgb), oklab(unique_colors(pillow)[0]))
    assert quantized(rgb, 16)[1] < float(np.sqrt(square.mean()))


def test_a_plain_picture_needs_fewer_colours_than_a_rich_one() -> None:
    plain, _ = elbow(np.array([[10, 10, 10], [200, 50, 50]] * 40, np.uint8))
    rich, _ = elbow(np.random.default_rng(0).integers(0, 256, (4000, 3), dtype=np.uint8))
    assert len(plain) == 2
    assert len(rich) > 16


@pytest.mark.parametrize("dither", ["bayer4", "bayer8"])
def test_dithering_keeps_the_mean_where_one_colour_would_not(dither: str) -> None:
    grey = np.full((64 * 64, 3), 150, np.uint8)  # about half way in OKLab between the two
    palette = np.array([[99, 99, 99], [205, 205, 205]], np.uint8)
    thresholds = np.tile(THRESHOLDS[dither], (8, 8)).repeat(2 if dither == "bayer4" else 1, 0)
    thresholds = np.resize(thresholds, (64, 64)).reshape(-1)
    drawn, used = mapped(grey, palette, thresholds)
    assert used == 2
    assert abs(oklab(drawn)[:, 0].mean() - oklab(grey)[0, 0]) < 0.03


def test_dithering_leaves_a_colour_of_the_palette_alone() -> None:
    flat = opaque(np.full((16, 16, 3), (48, 98, 48), float))
    result = PaletteEffect(colors=LOCKED, dither="bayer8").apply(flat)
    assert colors_of(result) == {(48, 98, 48)}


def test_dithering_is_the_same_from_frame_to_frame() -> None:
    """A change in one corner changes nothing elsewhere: no error is carried along."""
    effect = PaletteEffect(colors=LOCKED, dither="bayer4")
    before = gradient()
    changed = before.pixels.copy()
    changed[:4, :4, :3] = 200
    after = effect.apply(Picture(changed)).pixels
    assert np.array_equal(after[4:], effect.apply(before).pixels[4:])


def test_half_transparent_pixels_become_one_or_the_other() -> None:
    pixels = np.full((1, 2, 4), 100, np.uint8)
    pixels[0, :, 3] = (127, 128)
    assert PaletteEffect(colors=2).apply(Picture(pixels)).alpha.tolist() == [[0, 255]]


def test_an_empty_picture_stays_empty() -> None:
    result = PaletteEffect().apply(Picture(np.zeros((4, 4, 4), np.uint8)))
    assert result.notes[-1].code == "palette_empty"


def test_a_name_that_nobody_looked_up_is_an_error() -> None:
    with pytest.raises(EffectFailed, match="'forest'"):
        PaletteEffect(name="forest").apply(gradient())


@pytest.mark.parametrize(
    "fields",
    [{"colors": 1}, {"colors": 257}, {"colors": []}, {"colors": ["red"]}, {"colors": ["#000000"] * 257},
     {"colors": 4, "name": "forest"}, {"dither": "floyd"}],
)  # fmt: skip
def test_wrong_fields_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PaletteEffect.model_validate(fields)
