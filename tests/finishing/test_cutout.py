"""cutout: edges against a drawn truth, holes, grounds that are not flat, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.finishing.backdrop import find_backdrop
from serve_app.finishing.cutout import Cutout
from serve_app.finishing.picture import EffectFailed, Picture
from tests.finishing.sprites import (
    GREEN,
    GREY,
    MAGENTA,
    WHITE,
    edge_error,
    opaque,
    over,
    sprite,
)


def codes(picture: Picture) -> list[str]:
    return [note.code for note in picture.notes]


def hard_mask(picture: Picture) -> Picture:
    """What a simple background remover does: a threshold, colours untouched."""
    backdrop = find_backdrop(picture.rgb)
    pixels = picture.pixels.copy()
    pixels[backdrop.distance(picture.rgb) < backdrop.threshold, 3] = 0
    return Picture(pixels)


@pytest.mark.parametrize(
    ("noise", "most"), [(0, 4.0), (3, 6.0), (8, 10.0)], ids=["clean", "noise 3", "noise 8"]
)
def test_edges_on_a_green_key_are_close_to_the_truth(noise: float, most: float) -> None:
    made = sprite(512, GREEN, noise)
    assert edge_error(Cutout().apply(made.drawn), made) <= most
    assert edge_error(hard_mask(made.drawn), made) > 50


@pytest.mark.parametrize("key", [WHITE, MAGENTA, GREY], ids=["white", "magenta", "grey"])
def test_edges_on_other_grounds_are_as_close(key: tuple[int, int, int]) -> None:
    made = sprite(512, key, noise=3)
    assert edge_error(Cutout().apply(made.drawn), made) <= 6.5


def test_the_inside_of_the_subject_stays_opaque_and_untouched() -> None:
    """A light part behind a dark outline is no mix of the outline and the ground."""
    made = sprite(512, WHITE)
    inside = made.truth.alpha == 255
    result = Cutout().apply(made.drawn)
    changed = np.abs(over(result.pixels, (0, 0, 0)) - over(made.truth.pixels, (0, 0, 0)))[inside]
    assert changed.max(axis=1).mean() < 1
    assert (result.alpha[inside] < 128).mean() < 0.001


def pixel_art(cell: int) -> tuple[Picture, np.ndarray]:
    """A black and grey checker on white, and which pixels are its own: grey is black mixed with white."""
    shape = np.zeros((24, 24), bool)
    shape[6:18, 6:18] = True
    y, x = np.mgrid[0:24, 0:24]
    rgb = np.where((y + x) % 2, 0, 150) * shape + 255 * ~shape
    own = shape.repeat(cell, 0).repeat(cell, 1)
    return opaque(np.repeat(rgb.repeat(cell, 0).repeat(cell, 1)[..., None], 3, axis=2) * 1.0), own


@pytest.mark.parametrize("cell", [1, 4, 8])
def test_pixel_art_keeps_every_pixel_and_its_hard_edges(cell: int) -> None:
    drawn, own = pixel_art(cell)
    assert np.array_equal(Cutout().apply(drawn).alpha, np.where(own, 255, 0))


def test_enlarged_pixel_art_of_many_colours_keeps_its_hard_edges() -> None:
    """Noise makes thousands of colours of the few, as a model does."""
    drawn, own = pixel_art(8)
    noisy = opaque(drawn.rgb + np.random.default_rng(0).normal(0, 1.5, drawn.rgb.shape))
    assert ((Cutout().apply(noisy).alpha > 127) == own).mean() > 0.999


def test_no_edge_pixel_keeps_the_tint_of_the_key() -> None:
    made = sprite(512, GREEN, noise=3)
    result = Cutout().apply(made.drawn)
    rgb = result.rgb[(result.alpha > 32) & (result.alpha < 255)].astype(int)
    green = rgb[:, 1] > np.maximum(rgb[:, 0], rgb[:, 2]) + 20
    assert green.mean() < 0.05


def test_noise_leaves_no_specks_on_the_ground() -> None:
    made = sprite(512, GREEN, noise=3)
    ground = made.truth.alpha == 0
    assert (Cutout().apply(made.drawn).alpha[ground] > 0).sum() <= 3


def test_a_hole_is_cut_and_counted() -> None:
    result = Cutout().apply(sprite(256).drawn)
    assert result.alpha[161, 128] == 0
    assert result.notes[-1].numbers["holes"] == 1


def test_a_hole_stays_if_asked() -> None:
    assert Cutout(holes=False).apply(sprite(256).drawn).alpha[161, 128] == 255


def test_a_patch_that_is_nearly_the_grounds_colour_is_no_hole() -> None:
    made = sprite(256, WHITE)
    rgb = made.drawn.rgb.astype(float)
    hole = np.s_[135:188, 100:155]
    rgb[hole][made.truth.alpha[hole] == 0] = 251  # a highlight in its place
    assert Cutout().apply(opaque(rgb)).alpha[161, 128] == 255


def test_a_ground_that_changes_smoothly_is_cut_as_well() -> None:
    """A vignette on a gradient, as models like to paint it: a border of 100 levels' difference."""
    made = sprite(512, GREY)
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    light = 40 * y + 20 * x - 25 * (x * x + y * y)
    alpha = made.truth.alpha[..., None] / 255.0
    drawn = opaque(made.drawn.rgb + (1 - alpha) * light[..., None])
    result = Cutout().apply(drawn)
    assert codes(result) == ["cutout_holes", "cutout"]  # grey is no key that a subject avoids
    assert (result.alpha[made.truth.alpha == 0] > 0).mean() < 0.002
    assert edge_error(result, made) < 7


# ---- light subjects on white ----


def disc(size: int, radius: float, at: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    """0 to 1, with a soft edge of a pixel."""
    y, x = np.mgrid[:size, :size] + 0.5
    return np.clip(radius * size - np.hypot(x - at[0] * size, y - at[1] * size) + 0.5, 0, 1)


def painted(*layers: tuple[np.ndarray, float]) -> np.ndarray:
    """Grey levels of discs, one over the other, on white."""
    level = np.full(layers[0][0].shape, 255.0)
    for cover, value in layers:
        level = level * (1 - cover) + value * cover
    return level


def grey(level: np.ndarray) -> Picture:
    return opaque(np.repeat(level[..., None], 3, axis=2))


def test_a_body_a_few_levels_from_the_ground_is_not_eaten() -> None:
    """A white body, shaded by three levels only, in a grey outline with a gap of four pixels."""
    body = disc(128, 0.36)
    level = painted((disc(128, 0.38), 120.0), (body, 252.0))
    level[62:66, :40] = np.where(body[62:66, :40] > 0, level[62:66, :40], 254.0)
    result = Cutout().apply(grey(level))
    assert (result.alpha[body == 1] == 255).mean() > 0.98


def test_what_is_exactly_white_inside_is_kept_where_it_has_no_edge() -> None:
    """The highlight of a ball shades into it; the hole of a ring has an edge, and is said to be cut."""
    y, x = np.mgrid[:128, :128]
    away = np.hypot(x - 64, y - 64)
    ball = np.where(away < 50, np.clip(255 - 4.0 * np.maximum(0, away - 14), 100, 255), 255.0)
    result = Cutout().apply(grey(ball))
    assert (result.alpha[away < 46] == 255).all()
    ring = painted((disc(128, 0.4), 200.0), (disc(128, 0.25), 255.0))
    result = Cutout().apply(grey(ring))
    assert result.alpha[64, 64] == 0
    assert codes(result) == ["cutout_holes", "cutout"]
    assert Cutout(holes=False).apply(grey(ring)).alpha[64, 64] == 255


def test_a_white_room_behind_a_gap_is_kept_and_said_so() -> None:
    """White from a dark outline to a shaded middle; the ground gets in through a gap of two pixels."""
    y, x = np.mgrid[:128, :128]
    away = np.hypot(x - 64, y - 64)
    level = np.clip(255 - 4.0 * np.maximum(0, 34 - away), 90, 255)
    level[(away > 46) & (away < 52)] = 20
    level[away >= 52] = 255
    level[63:65, :19] = 255
    result = Cutout().apply(grey(level))
    assert (result.alpha[(away < 44) & (x > 26)] == 255).all()
    assert "cutout_uncertain" in codes(result)


def test_a_subject_that_falls_to_pieces_is_reported() -> None:
    """White with a dark dotted outline: nothing tells where it ends."""
    y, x = np.mgrid[:128, :128]
    ring = np.abs(np.hypot(x - 64, y - 64) - 48) < 2
    dots = ring & (np.arctan2(y - 64, x - 64) * 12 % np.pi < 2)
    (uncertain,) = (
        note
        for note in Cutout().apply(grey(np.where(dots, 30.0, 255.0))).notes
        if note.code == "cutout_uncertain"
    )
    assert "falls into 24 pieces" in uncertain.text


def test_a_halo_around_a_dark_subject_is_no_part_of_it() -> None:
    """A model's decoder leaves levels near white for two pixels around; none of them stays opaque."""
    cover = disc(288, 0.3)
    level = painted((cover, 40.0)) - disc(288, 0.3 + 2 / 288) * (1 - cover) * 12
    level += np.where(cover < 0.5, np.random.default_rng(2).normal(0, 0.4, level.shape), 0)
    result = Cutout().apply(grey(level))
    assert (result.alpha[(level > 225) & (cover < 0.5)] < 60).all()
    assert (result.alpha[cover == 1] == 255).all()


def noise_picture() -> Picture:
    return opaque(np.random.default_rng(1).uniform(0, 255, (96, 96, 3)))


def test_a_ground_that_is_not_flat_is_left_alone_and_said_so() -> None:
    result = Cutout().apply(noise_picture())
    assert codes(result) == ["cutout_uncertain"]
    assert not result.has_alpha


def test_two_grounds_are_not_one() -> None:
    """Half sky, half earth: the median of the border fits neither."""
    rgb = np.zeros((96, 96, 3))
    rgb[:48], rgb[48:] = (120, 180, 255), (110, 70, 30)
    assert codes(Cutout().apply(opaque(rgb))) == ["cutout_uncertain"]


def test_the_matte_can_be_forced_and_still_warns() -> None:
    assert "cutout_uncertain" in codes(Cutout(method="matte").apply(noise_picture()))


def test_a_picture_that_is_all_ground_becomes_empty_and_says_so() -> None:
    result = Cutout().apply(opaque(np.full((64, 64, 3), 200.0)))
    assert codes(result) == ["cutout_empty"]
    assert result.coverage == 0


def test_a_picture_without_ground_stays_whole() -> None:
    """A texture that fills the frame."""
    y, x = np.mgrid[0:64, 0:64]
    rgb = np.stack([(x * 37 + y * 101) % 256, (x * 73) % 256, (y * 59) % 256], axis=-1)
    assert not Cutout().apply(opaque(rgb.astype(float))).has_alpha


def test_a_picture_that_has_alpha_is_not_cut_twice() -> None:
    once = Cutout().apply(sprite(128).drawn)
    twice = Cutout().apply(once)
    assert np.array_equal(once.pixels, twice.pixels)
    assert codes(twice)[-1] == "cutout_skipped"


def test_a_subject_as_pale_as_the_ground_is_reported() -> None:
    rgb = np.full((96, 96, 3), 255.0)
    rgb[30:66, 30:66] = 243
    assert "cutout_uncertain" in codes(Cutout().apply(opaque(rgb)))


def test_what_touches_the_border_is_measured() -> None:
    rgb = np.full((100, 100, 3), 255.0)
    rgb[50:, 20:80] = (200, 30, 30)  # stands on the lower edge
    numbers = Cutout().apply(opaque(rgb)).notes[-1].numbers
    assert numbers["border_leak"] == pytest.approx(60 / 400, abs=0.01)


def test_a_network_that_is_not_configured_is_an_error() -> None:
    with pytest.raises(EffectFailed, match="no matting network"):
        Cutout(method="network").apply(sprite(64).drawn)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 3), (9, 5)])
def test_tiny_pictures_are_cut_without_trouble(shape: tuple[int, int]) -> None:
    rgb = np.full((*shape, 3), 255.0)
    rgb[shape[0] // 2, shape[1] // 2] = 0
    assert Cutout(method="matte").apply(opaque(rgb)).pixels.shape == (*shape, 4)
