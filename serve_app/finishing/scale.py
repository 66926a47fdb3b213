"""scale: another size, by the filter that fits what the picture is.

Knows nothing of learned models (upscale.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from serve_app.finishing.base import BaseEffect
from serve_app.finishing.bleed import bleed
from serve_app.finishing.picture import Picture, Pixels

_EPX = (2, 4, 8)
_LOBES, _MOST_BLEED = 3, 64  # what Lanczos reads on each side, in pixels of the smaller picture


class Scale(BaseEffect):
    """Resize by a factor, or to a width, a height or both: nearest and epx for pixel art, Lanczos else."""

    example: ClassVar[Mapping[str, Any]] = {"op": "scale", "factor": 4, "filter": "nearest"}

    op: Literal["scale"] = "scale"
    width: int | None = Field(default=None, ge=1, le=8192)
    height: int | None = Field(default=None, ge=1, le=8192)
    factor: float | None = Field(default=None, gt=0, le=32)
    filter: Literal["nearest", "lanczos", "epx"] = Field(
        default="lanczos", description="`epx` smooths the stairs of pixel art and adds no colour."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Scale:
        sized = self.width is not None or self.height is not None
        if sized == (self.factor is not None):
            raise ValueError("give either factor, or width or height or both")
        if self.filter == "epx" and self.factor not in _EPX:
            raise ValueError(f"with filter epx, factor is one of {list(_EPX)}")
        return self

    def apply(self, picture: Picture) -> Picture:
        width, height = self.size_of(picture)
        picture.check_room(width, height)
        if self.filter == "epx":
            return picture.scaled(epx(picture.pixels, int(self.factor or 1)))
        return picture.scaled(resize(picture.pixels, width, height, self.filter))

    def size_of(self, picture: Picture) -> tuple[int, int]:
        """One side given: the other keeps the proportion."""
        if self.factor is not None:
            wide, high = picture.width * self.factor, picture.height * self.factor
        else:
            wide = self.width or picture.width * (self.height or 0) / picture.height
            high = self.height or picture.height * (self.width or 0) / picture.width
        return (max(1, round(wide)), max(1, round(high)))


def resize(pixels: Pixels, width: int, height: int, how: Literal["nearest", "lanczos"]) -> Pixels:
    """Lanczos takes colours and alpha apart, after the edge's colours are continued outwards: weighed by
    alpha, as Pillow does it, edges get bright rims where alpha overshoots and is cut at 255."""
    if how == "nearest":
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST))
    shrunk = max(1.0, pixels.shape[1] / width, pixels.shape[0] / height)
    reach = min(_MOST_BLEED, int(np.ceil(_LOBES * shrunk)) + 1)
    layers = (bleed(pixels, reach)[..., :3], pixels[..., 3])
    images = [Image.fromarray(np.ascontiguousarray(layer)) for layer in layers]
    large = [image.resize((width, height), Image.Resampling.LANCZOS) for image in images]
    return np.dstack([np.asarray(image) for image in large])


def epx(pixels: Pixels, factor: int) -> Pixels:
    """Scale2x (Andrea Mazzoleni's form of EPX), once for each doubling."""
    packed = np.ascontiguousarray(pixels).view(np.uint32)[..., 0]
    while factor > 1:
        around = np.pad(packed, 1, mode="edge")
        up, down = around[:-2, 1:-1], around[2:, 1:-1]
        left, right = around[1:-1, :-2], around[1:-1, 2:]
        edge = (up != down) & (left != right)
        large = np.empty((2 * packed.shape[0], 2 * packed.shape[1]), np.uint32)
        large[0::2, 0::2] = np.where(edge & (left == up), left, packed)
        large[0::2, 1::2] = np.where(edge & (up == right), right, packed)
        large[1::2, 0::2] = np.where(edge & (left == down), left, packed)
        large[1::2, 1::2] = np.where(edge & (down == right), right, packed)
        packed, factor = large, factor // 2
    return packed[..., None].view(np.uint8)
