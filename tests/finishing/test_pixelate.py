"""pixelate and its grid: found where there is one, refused where there is none, with an oracle beside."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from perfect_pixel import get_perfect_pixel
from PIL import Image, ImageDraw, ImageFilter
from pydantic import ValidationError

from serve_app.finishing.cutout import Cutout
from serve_app.finishing.grid import SURE, find_grid
from serve_app.finishing.picture import EffectFailed, Picture
from serve_app.finishing.pixelate import Pixelate
from tests.finishing.sprites import opaque, sprite

CASES = [  # cell, blur, noise, wobble of the lines in pixels
    (16, 0, 0, 0),
    (16, 1.2, 4, 0),
    (11.3, 1, 6, 1),
    (4.7, 0.7, 6, 0),
    (20, 3, 8, 0),
    (3, 0, 0, 0),
    (2, 0, 0, 0),
    (8, 1.5, 5, 0.7),
    (6.4, 1, 4, 0.5),
    (25, 2, 10, 1),
]


def art(seed: int, side: int = 64) -> NDArray[np.uint8]:
    """A creature of pixel art: mirrored blobs of few colours with an outline, details of one pixel."""
    rng = np.random.default_rng(seed)
    colors = rng.integers(30, 250, (6, 3))
    image = Image.new("RGB", (side, side), (230, 230, 220))
    draw = ImageDraw.Draw(image)
    for color in colors:
        x, y = rng.integers(4, side - 20, 2).tolist()
        w, h = rng.integers(6, side // 3, 2).tolist()
        draw.ellipse((x, y, x + w, y + h), fill=tuple(color.tolist()), outline=(25, 20, 35))
    pixels = np.array(image)
    dots = rng.integers(0, side, (60, 2))
    pixels[dots[:, 0], dots[:, 1]] = colors[rng.integers(0, 6, 60)]
    return np.concatenate([pixels[:, : side // 2], pixels[:, : side // 2][:, ::-1]], axis=1)


def enlarged(
    pixels: NDArray[np.uint8], cell: float, blur: float, noise: float, wobble: float, seed: int
) -> Picture:
    """As a model paints it: soft, noisy, its lines off by up to `wobble`."""
    rng = np.random.default_rng(seed)
    side = round(len(pixels) * cell)
    lines = np.arange(len(pixels) + 1) * float(cell)
    lines[1:-1] += rng.uniform(-wobble, wobble, len(lines) - 2)
    index = np.searchsorted(np.round(lines)[1:-1], np.arange(side), side="right")
    image = Image.fromarray(pixels[index][:, index]).filter(ImageFilter.GaussianBlur(blur))
    return opaque(np.asarray(image) + rng.normal(0, noise, (side, side, 3)))


def by_oracle(picture: Picture) -> object:
    """What perfect-pixel finds; it prints, and raises where it finds nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return get_perfect_pixel(picture.rgb.copy(), sample_method="center")[:2]
        except TypeError:
            return None


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: "cell {} blur {} noise {} wobble {}".format(*case)
)
def test_the_grid_is_found_and_the_pixels_come_back(
    case: tuple[float, float, float, float],
) -> None:
    original = art(5)
    drawn = enlarged(original, *case, seed=5)
    result = Pixelate().apply(drawn)
    assert (result.width, result.height) == (64, 64)
    near = np.abs(result.rgb.astype(int) - original).max(axis=2) <= max(8, 2 * case[2])
    assert near.mean() > 0.97


def test_at_least_as_many_grids_are_found_as_by_perfect_pixel() -> None:
    ours = theirs = 0
    for seed, case in enumerate(CASES):
        drawn = enlarged(art(seed), *case, seed=seed)
        grid = find_grid(drawn.pixels)
        ours += grid.confidence >= SURE and (grid.width, grid.height) == (64, 64)
        theirs += by_oracle(drawn) == (64, 64)
    assert ours >= max(8, theirs)


def smooth(seed: int) -> Picture:
    """Clouds: noise of few points, enlarged softly, at two scales."""
    rng = np.random.default_rng(seed)
    layers = [
        Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((256, 256))
        for n in (5, 11)
    ]
    return opaque(np.mean([np.asarray(layer, float) for layer in layers], axis=0))


@pytest.mark.parametrize("seed", range(6))
def test_a_smooth_picture_has_no_grid_and_stays(seed: int) -> None:
    result = Pixelate().apply(smooth(seed))
    assert [note.code for note in result.notes] == ["no_grid"]
    assert result.width == 256


@pytest.mark.parametrize(
    "picture",
    [
        opaque(np.random.default_rng(0).uniform(0, 255, (128, 128, 3))),
        opaque(np.full((64, 64, 3), 90.0)),
        sprite(512).drawn,
        Picture(np.zeros((1, 1, 4), np.uint8)),
        Picture(np.zeros((3, 90, 4), np.uint8)),
    ],
    ids=["white noise", "one colour", "smooth sprite", "one pixel", "a line"],
)
def test_no_grid_is_claimed_where_there_is_none(picture: Picture) -> None:
    assert find_grid(picture.pixels).confidence < SURE


@pytest.mark.parametrize(
    ("fields", "size"),
    [({"width": 32}, (32, 16)), ({"height": 8}, (16, 8)), ({"width": 10, "height": 20}, (10, 20)),
     ({"cell": 4}, (32, 16)), ({"cell": 128}, (1, 1))],
)  # fmt: skip
def test_a_size_or_a_cell_can_be_given(fields: dict[str, float], size: tuple[int, int]) -> None:
    wide = opaque(np.random.default_rng(0).uniform(0, 255, (64, 128, 3)))
    result = Pixelate.model_validate(fields).apply(wide)
    assert (result.width, result.height) == size


def test_a_size_that_is_the_grids_uses_the_grids_lines() -> None:
    original = art(1)
    drawn = enlarged(original, 11.3, 0, 0, 1, seed=1)
    assert np.array_equal(Pixelate(width=64).apply(drawn).rgb, original)


def test_a_cell_takes_the_larger_part_not_a_mixture() -> None:
    cell = np.full((8, 8, 3), 255.0)
    cell[:, :3] = 0
    assert Pixelate(cell=8).apply(opaque(cell)).rgb.tolist() == [[[255, 255, 255]]]


def test_alpha_is_binary_and_hidden_colours_do_not_count() -> None:
    cut = Cutout().apply(sprite(128).drawn)
    result = Pixelate(width=32).apply(cut)
    assert set(np.unique(result.alpha)) == {0, 255}
    seen = result.rgb[result.alpha == 255].astype(int)
    assert (seen[:, 1] <= np.maximum(seen[:, 0], seen[:, 2]) + 20).all()  # no green of the key


def test_pixels_cannot_be_made_of_fewer() -> None:
    with pytest.raises(EffectFailed, match="1024x1024 pixels cannot be made of 64x64"):
        Pixelate(width=1024).apply(sprite(64).drawn)


@pytest.mark.parametrize(
    "fields",
    [{"width": 0}, {"width": 10_000}, {"cell": 0}, {"cell": 8, "width": 8}, {"height": -1}],
)
def test_sizes_out_of_range_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Pixelate.model_validate(fields)


def outlined() -> Picture:
    """A spotted blob of 32 x 32 pixels with a black outline, four times as large and soft, cut from white."""
    image = Image.new("RGB", (32, 32), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((5, 4, 26, 27), fill=(240, 236, 228), outline="black")
    for x, y in np.random.default_rng(4).integers(10, 22, (25, 2)).tolist():
        draw.point((x, y), fill=(150, 60, 40))
    return Cutout().apply(enlarged(np.asarray(image), 4, 0.6, 0.5, 0, seed=1))


def test_a_black_outline_shows_its_grid_when_its_ground_is_cut() -> None:
    """It would not on black, where outline and ground are one."""
    cut = outlined()
    assert cut.has_alpha
    grid = find_grid(cut.pixels)
    assert grid.confidence >= SURE
    assert (grid.width, grid.height) == (32, 32)
    (note,) = (
        note for note in Pixelate(width=32, height=32).apply(cut).notes if "grid" in note.code
    )
    assert note.code == "grid"


def test_a_size_that_was_asked_for_is_looked_for_first() -> None:
    """Few edges leave it open whether a cell has 4.0 pixels or 4.13; a picture without a grid stays one."""
    wanted = find_grid(outlined().pixels, expected=4.0)
    assert (wanted.cell, wanted.confidence >= SURE) == (4.0, True)
    assert find_grid(sprite(256).drawn.pixels, expected=4.0).confidence < SURE
    assert find_grid(outlined().pixels, expected=7.3).cell == pytest.approx(4.0, abs=0.05)
