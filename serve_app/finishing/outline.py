"""outline: a line of one colour around the subject.

Knows nothing of what lies inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from serve_app.finishing.base import BaseEffect, HexColor, rgb_of
from serve_app.finishing.frame import move
from serve_app.finishing.layers import over
from serve_app.finishing.masks import dilate
from serve_app.finishing.picture import Picture


class Outline(BaseEffect):
    """Draw a line around the subject; the canvas grows where the line needs room."""

    example: ClassVar[Mapping[str, Any]] = {"op": "outline", "pixels": 1, "color": "#1a1c2c"}

    op: Literal["outline"] = "outline"
    pixels: int = Field(default=1, ge=1, le=16, description="Width of the line.")
    color: HexColor = "#000000"
    edge: Literal["auto", "pixel", "smooth"] = Field(
        default="auto",
        description="`pixel` grows by whole pixels to the four sides, `smooth` is round with a soft"
        " edge. `auto`: pixel where alpha is 0 or 255 only.",
    )

    def apply(self, picture: Picture) -> Picture:
        picture = with_room(picture, self.pixels, self.pixels, self.pixels, self.pixels)
        hard = self.edge == "pixel" or (self.edge == "auto" and _is_binary(picture))
        grown = _hard(picture, self.pixels) if hard else _smooth(picture, self.pixels)
        line = np.empty_like(picture.pixels)
        line[..., :3] = rgb_of(self.color)
        line[..., 3] = grown
        return picture.with_pixels(over(picture.pixels, line))


def with_room(picture: Picture, left: int, top: int, right: int, bottom: int) -> Picture:
    """At least so many transparent pixels on each side; what is there already counts."""
    seen = picture.alpha > 0
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return picture
    left = max(0, left - int(columns[0]))
    top = max(0, top - int(rows[0]))
    right = max(0, right - (picture.width - 1 - int(columns[-1])))
    bottom = max(0, bottom - (picture.height - 1 - int(rows[-1])))
    if not (left or top or right or bottom):
        return picture
    return move(picture, picture.width + left + right, picture.height + top + bottom, left, top)


def _is_binary(picture: Picture) -> bool:
    return bool(np.isin(picture.alpha, (0, 255)).all())


def _hard(picture: Picture, pixels: int) -> np.ndarray:
    mask = picture.alpha > 127
    for _ in range(pixels):
        mask = dilate(mask)
    return np.where(mask, 255, 0).astype(np.uint8)


def _smooth(picture: Picture, pixels: int) -> np.ndarray:
    """Each pixel takes the largest alpha around it, less near the end of the line's width."""
    reach = pixels + 1
    height, width = picture.alpha.shape
    around = np.pad(picture.alpha, reach)
    grown = picture.alpha.copy()
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            weight = np.clip(reach - np.hypot(dy, dx), 0, 1)
            if weight > 0:
                part = around[reach + dy :, reach + dx :][:height, :width]
                if weight < 1:
                    part = (np.arange(256) * weight).round().astype(np.uint8)[part]
                np.maximum(grown, part, out=grown)
    return grown
