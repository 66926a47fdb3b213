"""trim, pad, canvas: how much empty room there is around the subject.

Knows nothing of what fills the picture. Nothing is scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field

from serve_app.finishing.base import BaseEffect
from serve_app.finishing.picture import Picture

Anchor: TypeAlias = Literal[
    "top_left", "top", "top_right", "left", "center", "right", "bottom_left", "bottom", "bottom_right"
]  # fmt: skip


class Trim(BaseEffect):
    """Cut away the transparent rows and columns around the subject."""

    example: ClassVar[Mapping[str, Any]] = {"op": "trim", "padding": 1}

    op: Literal["trim"] = "trim"
    padding: int = Field(
        default=0, ge=0, le=512, description="Transparent pixels left on each side."
    )
    threshold: int = Field(
        default=0, ge=0, le=254, description="Alpha up to which a pixel is empty."
    )

    def apply(self, picture: Picture) -> Picture:
        seen = picture.alpha > self.threshold
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        if not len(rows):
            return picture.noted("trim_empty", "Every pixel is transparent: nothing was trimmed.")
        top, left = int(rows[0]), int(columns[0])
        height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
        result = move(
            picture, width + 2 * self.padding, height + 2 * self.padding,
            self.padding - left, self.padding - top,
        )  # fmt: skip
        return result.noted(
            "trim",
            f"The subject is {width}x{height} of {picture.width}x{picture.height} pixels.",
            left=left, top=top, width=width, height=height,
        )  # fmt: skip


class Pad(BaseEffect):
    """Add transparent pixels on every side."""

    example: ClassVar[Mapping[str, Any]] = {"op": "pad", "pixels": 2}

    op: Literal["pad"] = "pad"
    pixels: int = Field(ge=0, le=2048, description="On each side.")

    def apply(self, picture: Picture) -> Picture:
        more = 2 * self.pixels
        return move(picture, picture.width + more, picture.height + more, self.pixels, self.pixels)


class Canvas(BaseEffect):
    """Put the picture on a transparent canvas of this size, at the anchor; what does not fit is cut."""

    example: ClassVar[Mapping[str, Any]] = {
        "op": "canvas",
        "width": 256,
        "height": 256,
        "anchor": "bottom",
    }

    op: Literal["canvas"] = "canvas"
    width: int = Field(ge=1, le=8192)
    height: int = Field(ge=1, le=8192)
    anchor: Anchor = "center"

    def apply(self, picture: Picture) -> Picture:
        x, y = share_of(self.anchor)
        left = int((self.width - picture.width) * x)
        top = int((self.height - picture.height) * y)
        result = move(picture, self.width, self.height, left, top)
        if picture.width > self.width or picture.height > self.height:
            return result.noted(
                "canvas_cut",
                f"{picture.width}x{picture.height} pixels were cut to {self.width}x{self.height}.",
            )
        return result


def share_of(anchor: Anchor) -> tuple[float, float]:
    """Of the width and of the height, y down."""
    x = 0.0 if "left" in anchor else 1.0 if "right" in anchor else 0.5
    y = 0.0 if "top" in anchor else 1.0 if "bottom" in anchor else 0.5
    return (x, y)


def move(picture: Picture, width: int, height: int, dx: int, dy: int) -> Picture:
    """On a transparent canvas of this size, with what was at (0, 0) at (dx, dy)."""
    picture.check_room(width, height)
    pixels = np.zeros((height, width, 4), np.uint8)
    left, top = max(0, dx), max(0, dy)
    right, bottom = min(width, picture.width + dx), min(height, picture.height + dy)
    if left < right and top < bottom:
        source = picture.pixels[top - dy : bottom - dy, left - dx : right - dx]
        pixels[top:bottom, left:right] = source
    return picture.placed(pixels, dx, dy)
