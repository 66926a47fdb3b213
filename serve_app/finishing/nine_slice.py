"""nine_slice: the borders of a frame or button that stretches in its middle.

Knows nothing of engines' files: the borders are a fact of the picture, which delivery writes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from serve_app.finishing.base import BaseEffect
from serve_app.finishing.picture import Borders, Picture


class NineSlice(BaseEffect):
    """Find the borders between which the picture can be stretched; the pixels stay as they are."""

    example: ClassVar[Mapping[str, Any]] = {"op": "nine_slice"}

    op: Literal["nine_slice"] = "nine_slice"
    tolerance: int = Field(
        default=2, ge=0, le=32, description="Difference of neighbouring lines that counts as none."
    )
    least: float = Field(
        default=0.25, gt=0, le=1, description="Share of the side that has to be alike."
    )

    def apply(self, picture: Picture) -> Picture:
        seen = np.where(picture.pixels[..., 3:] > 0, picture.pixels, 0).astype(np.int16)
        across, down = self._zone(seen.transpose(1, 0, 2)), self._zone(seen)
        missing = [name for name, zone in (("columns", across), ("rows", down)) if zone is None]
        if across is None or down is None:
            return picture.noted(
                "nine_slice_not_found",
                f"No run of equal {' and '.join(missing)} is {self.least:.0%} of the side long.",
            )
        borders = Borders(across[0], down[0], picture.width - across[1], picture.height - down[1])
        return replace(picture, borders=borders).noted(
            "nine_slice",
            "The middle stretches; fixed borders: left {}, top {}, right {}, bottom {}.".format(
                *borders
            ),
            **borders._asdict(),
        )

    def _zone(self, lines: NDArray[np.int16]) -> tuple[int, int] | None:
        """Start and end of the longest run of equal lines (the first axis)."""
        same = np.abs(np.diff(lines, axis=0)).max(axis=(1, 2)) <= self.tolerance
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
        starts, stops = edges[0::2], edges[1::2] + 1
        if not len(starts):
            return None
        longest = int(np.argmax(stops - starts))
        start, stop = int(starts[longest]), int(stops[longest])
        return (start, stop) if stop - start >= self.least * len(lines) else None
