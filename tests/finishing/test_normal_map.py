"""normal_map: directions of known slopes, and both meanings of y."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from serve_app.finishing.normal_map import NormalMap
from serve_app.finishing.picture import Picture
from tests.finishing.sprites import opaque, sprite


def normals(picture: Picture, **fields: object) -> np.ndarray:
    effect = NormalMap.model_validate(fields)
    return effect.apply(picture).files["normal_map"].astype(float) / 127.5 - 1


def ramp(axis: int) -> Picture:
    rgb = np.repeat(np.linspace(0, 255, 32)[:, None], 32, axis=1)
    return opaque(np.repeat((rgb if axis == 0 else rgb.T)[..., None], 3, axis=2))


def test_a_flat_picture_faces_the_viewer() -> None:
    flat = normals(opaque(np.full((16, 16, 3), 90.0)))
    assert np.abs(flat - (0, 0, 1)).max() < 0.01


def test_a_surface_that_rises_to_the_right_faces_left() -> None:
    assert (normals(ramp(axis=1))[8:-8, 8:-8, 0] < -0.1).all()


@pytest.mark.parametrize(("y", "sign"), [("up", 1), ("down", -1)])
def test_y_points_up_or_down(y: Literal["up", "down"], sign: int) -> None:
    """A surface that rises downwards faces up."""
    assert (normals(ramp(axis=0), y=y)[8:-8, 8:-8, 1] * sign > 0.1).all()


def test_every_normal_has_length_one() -> None:
    lengths = np.linalg.norm(normals(sprite(64).truth), axis=2)
    assert np.abs(lengths - 1).max() < 0.02


def test_the_bevel_faces_outwards_at_the_left_edge() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[16:48, 16:48] = 128, 128, 128, 255
    mapped = normals(Picture(pixels), bevel=8)
    assert mapped[32, 18, 0] < -0.2
    assert mapped[32, 45, 0] > 0.2
    assert np.abs(mapped[32, 32] - (0, 0, 1)).max() < 0.05


def test_the_picture_itself_stays() -> None:
    before = sprite(64).truth
    assert np.array_equal(NormalMap().apply(before).pixels, before.pixels)
