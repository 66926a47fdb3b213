"""normal_map: which way the surface faces at each pixel, for engines that light sprites.

Knows nothing of the true shape: height is guessed from brightness and from the distance to the edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from serve_app.finishing.base import BaseEffect
from serve_app.finishing.blur import blurred
from serve_app.finishing.masks import nearest
from serve_app.finishing.picture import Floats, Picture

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


class NormalMap(BaseEffect):
    """Add a normal map as a second file of the same size; the picture itself stays as it is."""

    example: ClassVar[Mapping[str, Any]] = {"op": "normal_map", "strength": 2, "y": "up"}

    op: Literal["normal_map"] = "normal_map"
    strength: float = Field(
        default=2, gt=0, le=20, description="Steepness of what brightness says."
    )
    bevel: int = Field(
        default=8, ge=0, le=64, description="Pixels over which the edge of the subject is rounded."
    )
    smooth: float = Field(default=1.5, ge=0, le=16, description="Blur of the heights, in pixels.")
    y: Literal["up", "down"] = Field(
        default="up",
        description="Where green points: up for Godot, Unity and OpenGL, down for Unreal.",
    )

    def apply(self, picture: Picture) -> Picture:
        height = _luminance(picture) * (self.strength * 4)
        if self.bevel and picture.has_alpha:
            height = height + _bevel(picture, self.bevel)
        gx, gy = _slopes(blurred(height, self.smooth))
        normal = np.stack([-gx, gy if self.y == "up" else -gy, np.ones_like(gx)], axis=-1)
        normal /= np.sqrt((normal * normal).sum(axis=-1, keepdims=True))
        normal[picture.alpha == 0] = (0, 0, 1)
        encoded = np.round(normal * 127.5 + 127.5).astype(np.uint8)
        return picture.with_file("normal_map", encoded)


def _luminance(picture: Picture) -> Floats:
    rgb = picture.rgb
    light = sum((weight * rgb[..., c] for c, weight in enumerate(_LUMA)), np.float32(0))
    return light * (picture.alpha.astype(np.float32) / 255 / 255)


def _bevel(picture: Picture, reach: int) -> Floats:
    """A quarter circle from the edge inwards."""
    around = np.pad(picture.alpha < 128, 1, constant_values=True)
    distance = np.minimum(nearest(around, reach)[0][1:-1, 1:-1], reach)
    inward = 1 - distance / reach
    return np.sqrt(np.maximum(0, 1 - inward * inward)) * np.float32(reach / 2)


def _slopes(height: Floats) -> tuple[Floats, Floats]:
    """Sobel over 8: rise per pixel to the right and down."""
    p = np.pad(height, 1, mode="edge")
    down = p[:-2] + 2 * p[1:-1] + p[2:]
    across = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
    return (down[:, 2:] - down[:, :-2]) / 8, (across[2:] - across[:-2]) / 8
