"""flip and rotate: mirror a picture, or turn it by quarters.

Knows nothing of other angles: those would have to invent pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from serve_app.finishing.base import BaseEffect
from serve_app.finishing.picture import Borders, Picture


class Flip(BaseEffect):
    """Mirror the picture: left becomes right, or top becomes bottom."""

    example: ClassVar[Mapping[str, Any]] = {"op": "flip", "axis": "horizontal"}

    op: Literal["flip"] = "flip"
    axis: Literal["horizontal", "vertical"] = "horizontal"

    def apply(self, picture: Picture) -> Picture:
        if self.axis == "horizontal":
            return _mirrored(picture)
        return _quarter(_quarter(_mirrored(picture)))


class Rotate(BaseEffect):
    """Turn the picture clockwise by quarters; no pixel changes its colour."""

    example: ClassVar[Mapping[str, Any]] = {"op": "rotate", "degrees": 90}

    op: Literal["rotate"] = "rotate"
    degrees: Literal[90, 180, 270]

    def apply(self, picture: Picture) -> Picture:
        for _ in range(self.degrees // 90):
            picture = _quarter(picture)
        return picture


def _mirrored(picture: Picture) -> Picture:
    pivot = picture.pivot and (picture.width - picture.pivot[0], picture.pivot[1])
    borders = picture.borders
    if borders is not None:
        borders = Borders(borders.right, borders.top, borders.left, borders.bottom)
    pixels = np.ascontiguousarray(picture.pixels[:, ::-1])
    return replace(picture, pixels=pixels, pivot=pivot, borders=borders)


def _quarter(picture: Picture) -> Picture:
    """90 degrees clockwise: what was at the left is at the top."""
    pivot = picture.pivot and (picture.height - picture.pivot[1], picture.pivot[0])
    borders = picture.borders
    if borders is not None:
        borders = Borders(borders.bottom, borders.left, borders.top, borders.right)
    pixels = np.ascontiguousarray(np.rot90(picture.pixels, -1))
    return replace(picture, pixels=pixels, pivot=pivot, borders=borders)
