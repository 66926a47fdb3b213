"""shadow: a soft shadow under the subject, cast to one side.

Knows nothing of light: the shadow is the subject's own shape, moved and blurred.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image, ImageFilter
from pydantic import Field

from serve_app.finishing.base import BaseEffect, HexColor, rgb_of
from serve_app.finishing.layers import over
from serve_app.finishing.outline import with_room
from serve_app.finishing.picture import Picture


class Shadow(BaseEffect):
    """Lay a blurred shadow under the subject; the canvas grows where the shadow needs room."""

    example: ClassVar[Mapping[str, Any]] = {
        "op": "shadow",
        "dx": 4,
        "dy": 6,
        "blur": 4,
        "opacity": 0.5,
    }

    op: Literal["shadow"] = "shadow"
    dx: int = Field(default=0, ge=-512, le=512, description="Pixels to the right.")
    dy: int = Field(default=4, ge=-512, le=512, description="Pixels down.")
    blur: float = Field(default=4, ge=0, le=128, description="Standard deviation in pixels.")
    opacity: float = Field(default=0.5, gt=0, le=1)
    color: HexColor = "#000000"

    def apply(self, picture: Picture) -> Picture:
        soft = round(3 * self.blur)
        picture = with_room(
            picture,
            max(0, soft - self.dx), max(0, soft - self.dy),
            max(0, soft + self.dx), max(0, soft + self.dy),
        )  # fmt: skip
        shape = Image.new("L", (picture.width, picture.height))
        shape.paste(Image.fromarray(np.ascontiguousarray(picture.alpha)), (self.dx, self.dy))
        blurred = np.asarray(shape.filter(ImageFilter.GaussianBlur(self.blur)), np.float32)
        under = np.empty_like(picture.pixels)
        under[..., :3] = rgb_of(self.color)
        under[..., 3] = np.round(blurred * self.opacity)
        return picture.with_pixels(over(picture.pixels, under))
