"""pivot: the point by which an engine places and turns the sprite.

Knows nothing of engines: some count y from the bottom, which is theirs to convert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from serve_app.finishing.base import BaseEffect
from serve_app.finishing.frame import Anchor, share_of
from serve_app.finishing.picture import Picture


class Pivot(BaseEffect):
    """Set the sprite's pivot: `anchor`, or `x` and `y` as shares of the size, y down."""

    example: ClassVar[Mapping[str, Any]] = {"op": "pivot", "anchor": "bottom"}

    op: Literal["pivot"] = "pivot"
    anchor: Anchor | None = None
    x: float | None = Field(default=None, ge=-1, le=2)
    y: float | None = Field(default=None, ge=-1, le=2)

    @model_validator(mode="after")
    def _one_way(self) -> Pivot:
        if (self.x is None) != (self.y is None) or (self.anchor is None) == (self.x is None):
            raise ValueError("give either anchor, or both x and y")
        return self

    def apply(self, picture: Picture) -> Picture:
        x, y = share_of(self.anchor) if self.anchor else (self.x or 0.0, self.y or 0.0)
        return replace(picture, pivot=(x * picture.width, y * picture.height))
