"""seam: how well the opposite sides of a texture meet, and a repair for those that do not.

Knows nothing of how tiles are drawn: true ones come from the engine; this gates and mends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from serve_app.finishing.base import BaseEffect
from serve_app.finishing.blur import blurred
from serve_app.finishing.picture import Floats, Picture, Pixels

_GRAIN = 4.0  # standard deviation in pixels that parts fine from coarse
PASS = 1.3  # a score up to which the eye finds no seam


class Seam(BaseEffect):
    """Measure the seams of a tile and mend those that show, by a soft strip of the texture itself."""

    example: ClassVar[Mapping[str, Any]] = {"op": "seam", "axis": "both", "strip": 48}

    op: Literal["seam"] = "seam"
    axis: Literal["both", "x", "y"] = "both"
    strip: int = Field(default=48, ge=4, le=1024, description="Width in pixels of what is blended.")
    limit: float = Field(
        default=PASS, ge=0, le=10, description="A score up to this one is left as it is."
    )

    def apply(self, picture: Picture) -> Picture:
        before = seam_scores(picture.pixels)
        pixels = picture.pixels
        if self.axis != "y" and before["x"] > self.limit:
            pixels = mended(pixels, self.strip)
        if self.axis != "x" and before["y"] > self.limit:
            pixels = mended(pixels.transpose(1, 0, 2), self.strip).transpose(1, 0, 2)
        pixels = np.ascontiguousarray(pixels)
        after = seam_scores(pixels)
        return picture.with_pixels(pixels).noted(
            "seam",
            f"Seam left to right {before['x']:.2f} -> {after['x']:.2f}, top to bottom"
            f" {before['y']:.2f} -> {after['y']:.2f}; up to {PASS} no seam is seen.",
            x_before=round(before["x"], 3), x_after=round(after["x"], 3),
            y_before=round(before["y"], 3), y_after=round(after["y"], 3),
        )  # fmt: skip


def seam_scores(pixels: Pixels) -> dict[Literal["x", "y"], float]:
    """The step between opposite sides, measured by the steps between neighbours inside (their 95th
    percentile): about 1 where the picture goes on, 2 to 14 where it was cut anywhere."""
    seen = pixels[..., :3] * (pixels[..., 3:].astype(np.float32) / 255)
    return {"x": _score(seen.transpose(1, 0, 2)), "y": _score(seen)}


def _score(lines: Floats) -> float:
    step = float(np.abs(lines[0] - lines[-1]).mean())
    inner = np.abs(np.diff(lines, axis=0)).mean(axis=(1, 2))
    if not len(inner):
        return 0.0
    return step / max(float(np.percentile(inner, 95)), 0.5)  # half a level is what rounding makes


def mended(pixels: Pixels, strip: int) -> Pixels:
    """Left and right meet: the picture rolled by half, its middle blended with what was there before."""
    width = pixels.shape[1]
    half = min(strip, width // 2) / 2
    middle = width // 2 - 0.5
    near = np.clip(1 - np.abs(np.arange(width) - middle) / max(half, 1), 0, 1)
    share = (near * near * (3 - 2 * near)).astype(np.float32)[None, :, None]
    around = half + 3 * _GRAIN
    part = np.s_[:, max(0, int(middle - around)) : int(middle + around) + 1]
    result = np.roll(pixels, width // 2, axis=1)
    blended = _blended(
        result[part].astype(np.float32), pixels[part].astype(np.float32), share[part]
    )
    result[part] = np.clip(np.round(blended), 0, 255)
    return result


def _blended(a: Floats, b: Floats, share: Floats) -> Floats:
    """From a (share 0) to b (share 1) with the grain of both: the mean of two independent grains would
    be flatter than either, so the fine part is raised by what the mean takes from it."""
    coarse_a, coarse_b = blurred(a, _GRAIN), blurred(b, _GRAIN)
    fine_a, fine_b = a - coarse_a, b - coarse_b
    likeness = float((fine_a * fine_b).mean()) / max(float((fine_a * fine_a).mean()), 1e-6)
    rest = 1 - share
    kept = rest**2 + share**2 + 2 * np.clip(likeness, 0, 1) * rest * share
    fine = (fine_a * rest + fine_b * share) / np.sqrt(kept)
    return coarse_a * rest + coarse_b * share + fine
