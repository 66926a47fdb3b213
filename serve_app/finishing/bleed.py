"""bleed: colour under transparent pixels, so that no filter of an engine mixes in what is not there.

Knows nothing of how the pixels became transparent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from serve_app.finishing.base import BaseEffect
from serve_app.finishing.masks import nearest
from serve_app.finishing.picture import Picture, Pixels

RADIUS = 8  # pixels; enough for mipmaps down to 1/8
_COLOR = np.array([255, 255, 255, 0], np.uint8).view(np.uint32)[0]  # without alpha


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
    whole = np.ascontiguousarray(pixels).view(np.uint32).reshape(-1)  # a pixel is one number
    result = np.where(visible.reshape(-1), whole, _middle(whole[visible.reshape(-1)]) & _COLOR)
    index = nearest(visible, radius)[1].reshape(-1)
    filled = np.flatnonzero((index >= 0) & ~visible.reshape(-1))
    result[filled] = whole[index[filled]] & _COLOR
    return result.view(np.uint8).reshape(pixels.shape)


def _middle(pixels: NDArray[np.uint32]) -> np.uint32:
    """Of these the first whose colour is closest to their mean."""
    square = np.zeros(len(pixels))
    for channel in pixels.view(np.uint8).reshape(-1, 4)[:, :3].T:
        off = channel - channel.mean(dtype=np.float64)
        square += off * off
    return pixels[np.argmin(square)]
