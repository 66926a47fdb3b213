"""bleed: colour under transparent pixels, so that no filter of an engine mixes in what is not there.

Knows nothing of how the pixels became transparent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from serve_app.finishing.base import BaseEffect
from serve_app.finishing.masks import nearest
from serve_app.finishing.picture import Picture, Pixels

RADIUS = 8  # pixels; enough for mipmaps down to 1/8


class Bleed(BaseEffect):
    """Continue the colours of the edge under the transparent pixels, against dark fringes in an engine."""

    example: ClassVar[Mapping[str, Any]] = {"op": "bleed", "radius": 16}

    op: Literal["bleed"] = "bleed"
    radius: int = Field(default=RADIUS, ge=1, le=64, description="Pixels from the edge.")

    def apply(self, picture: Picture) -> Picture:
        return picture.with_pixels(bleed(picture.pixels, self.radius))


def bleed(pixels: Pixels, radius: int = RADIUS) -> Pixels:
    """Transparent pixels take the colour of the nearest visible one, those beyond `radius` the visible
    colour closest to the mean. No colour is new."""
    visible = pixels[..., 3] > 0
    if visible.all() or not visible.any():
        return pixels
    result = pixels.copy()
    result[~visible, :3] = _middle(pixels[visible][:, :3])
    distance, index = nearest(visible, radius)
    filled = np.isfinite(distance) & ~visible
    result[filled, :3] = pixels[..., :3].reshape(-1, 3)[index[filled]]
    return result


def _middle(colors: np.ndarray) -> np.ndarray:
    off = colors - colors.mean(axis=0, dtype=np.float64)
    return colors[np.argmin((off * off).sum(axis=1))]
