"""require: each gate passes what it should and fails the rest with a reason, and every score is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from serve_app.finishing.picture import Picture
from serve_app.finishing.require import Require, distance, fingerprint, judge
from serve_app.finishing.scale import Scale
from serve_app.finishing.turn import Flip
from tests.finishing.sprites import opaque, sprite


def shape(seed: int, size: int = 96) -> Picture:
    """Blobs on a transparent ground, different for each seed."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((size, size, 4), np.uint8)
    y, x = np.mgrid[0:size, 0:size] / size
    for _ in range(6):
        cx, cy, r = rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85), rng.uniform(0.05, 0.2)
        pixels[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = (*rng.integers(0, 256, 3), 255)
    return Picture(pixels)


def gate(**fields: Any) -> Require:
    return Require.model_validate(fields)


def one_color(alpha: int = 255) -> Picture:
    return Picture(np.full((32, 32, 4), (40, 90, 200, alpha), np.uint8))


GATES: list[tuple[str, Require, Callable[[], Picture], Callable[[], Picture]]] = [
    ("coverage", gate(coverage={"min": 0.05, "max": 0.9}), lambda: sprite(64).truth, one_color),
    ("clear_border", gate(clear_border=True), lambda: sprite(64).truth, one_color),
    ("seam", gate(seam=1.3), one_color, lambda: opaque(np.mgrid[0:64, 0:64][[0, 1, 0]].T * 4.0)),
    ("not_blank", gate(not_blank=True), lambda: sprite(64).truth, one_color),
    ("colors", gate(colors=16), one_color, lambda: sprite(64, noise=3).drawn),
]


@pytest.mark.parametrize(("name", "require", "good", "bad"), GATES, ids=[g[0] for g in GATES])
def test_a_gate_passes_the_good_and_names_what_fails(
    name: str, require: Require, good: Callable[[], Picture], bad: Callable[[], Picture]
) -> None:
    assert judge(good(), require).passed
    verdict = judge(bad(), require)
    assert list(verdict.failures) == [name]
    assert verdict.failures[name].endswith(".")
    assert verdict.scores


def test_an_invisible_picture_is_blank() -> None:
    assert "not_blank" in judge(one_color(alpha=0), gate(not_blank=True)).failures


def test_nothing_required_is_nothing_measured() -> None:
    verdict = judge(sprite(64).drawn, Require())
    assert (verdict.passed, dict(verdict.scores)) == (True, {})


def test_a_duplicate_is_found_though_resized() -> None:
    earlier = [fingerprint(shape(0)), fingerprint(shape(1))]
    again = Scale(factor=1.5).apply(shape(1))
    assert list(judge(again, gate(unique=True), earlier).failures) == ["unique"]


def test_a_mirrored_picture_is_a_duplicate() -> None:
    mirrored = Flip().apply(shape(2))
    assert distance(fingerprint(shape(2)), fingerprint(mirrored)) <= 6


def test_different_pictures_are_unique() -> None:
    prints = [fingerprint(shape(seed)) for seed in range(20)]
    for i, picture in enumerate(prints):
        assert all(distance(picture, other) > 6 for other in prints[:i])


def test_the_same_shape_in_another_colour_is_no_duplicate() -> None:
    """A red and a blue potion have one shape."""
    red = shape(3)
    blue = Picture(np.ascontiguousarray(red.pixels[..., [2, 1, 0, 3]]))
    assert distance(fingerprint(red), fingerprint(blue)) == 64


def test_colours_under_transparent_pixels_do_not_move_the_fingerprint() -> None:
    pixels = shape(4).pixels.copy()
    pixels[pixels[..., 3] == 0, :3] = np.random.default_rng(0).integers(0, 256, 3)
    assert fingerprint(Picture(pixels)).shape == fingerprint(shape(4)).shape


def test_the_first_picture_is_unique() -> None:
    assert judge(shape(0), gate(unique=True)).scores == {"nearest": 64}


@pytest.mark.parametrize(
    "fields",
    [{"coverage": {"min": 0.9, "max": 0.1}}, {"coverage": {"min": -1}}, {"seam": 0}, {"colors": 0},
     {"sharp": True}, {"seam": float("nan")}],
)  # fmt: skip
def test_wrong_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        gate(**fields)
