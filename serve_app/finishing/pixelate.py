"""pixelate: one pixel for each cell of a grid, which is found in the picture or given.

Knows nothing of how a grid is found (grid.py) or of palettes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from serve_app.finishing.base import BaseEffect
from serve_app.finishing.grid import SURE, Grid, find_grid, regular, samples
from serve_app.finishing.picture import EffectFailed, Floats, Picture

_CORE = 0.6  # of a found cell's side: its rim is blurred
_SAMPLES = 8  # along a side of a cell
_MOST_SAMPLES = 4_000_000
_APART = 24.0  # RGB distance from which a cell shows two things, not one with noise


class Pixelate(BaseEffect):
    """Make true pixels: one for each cell of the grid that the picture was painted on, or of `width`,
    `height` or `cell`. Afterwards alpha is 0 or 255."""

    example: ClassVar[Mapping[str, Any]] = {"op": "pixelate", "width": 64}

    op: Literal["pixelate"] = "pixelate"
    width: int | None = Field(default=None, ge=1, le=1024, description="Pixels of the result.")
    height: int | None = Field(default=None, ge=1, le=1024, description="Pixels of the result.")
    cell: float | None = Field(default=None, ge=1, le=512, description="Pixels that become one.")

    @model_validator(mode="after")
    def _one_way(self) -> Pixelate:
        if self.cell is not None and (self.width is not None or self.height is not None):
            raise ValueError("give either cell, or width or height or both, or nothing")
        return self

    def apply(self, picture: Picture) -> Picture:
        wanted = self._cells(picture)
        square = wanted is not None and wanted[0] * picture.height == wanted[1] * picture.width
        expected = picture.width / wanted[0] if wanted is not None and square else None
        found = find_grid(picture.pixels, expected) if self.cell is None else None
        sure = found is not None and found.confidence >= SURE
        if found is not None:
            picture = _described(picture, found, sure)
        if found is not None and sure and wanted in (None, (found.width, found.height)):
            return picture.scaled(_reduced(picture, found, _CORE))
        if wanted is None:
            return picture
        return picture.scaled(_reduced(picture, regular(picture.pixels.shape[1::-1], wanted), 1.0))

    def _cells(self, picture: Picture) -> tuple[int, int] | None:
        """Columns and rows; one given: the other keeps cells square. None: those of the picture's grid."""
        wide, high = picture.width, picture.height
        if self.cell is not None:
            cells = (round(wide / self.cell), round(high / self.cell))
        elif self.width is not None:
            cells = (self.width, self.height or round(high * self.width / wide))
        elif self.height is not None:
            cells = (round(wide * self.height / high), self.height)
        else:
            return None
        cells = (max(1, cells[0]), max(1, cells[1]))
        if cells[0] > wide or cells[1] > high:
            raise EffectFailed(
                f"pixelate: {cells[0]}x{cells[1]} pixels cannot be made of {wide}x{high}"
            )
        return cells


def _described(picture: Picture, found: Grid, sure: bool) -> Picture:
    if not sure:
        return picture.noted(
            "no_grid",
            f"The picture has no grid of pixels (confidence {found.confidence:.2f}).",
            confidence=round(found.confidence, 4),
        )
    return picture.noted(
        "grid",
        f"A grid of {found.width}x{found.height} cells, {found.cell:.2f} pixels each, was found"
        f" (confidence {found.confidence:.2f}).",
        width=found.width, height=found.height, cell=round(found.cell, 3),
        confidence=round(found.confidence, 4),
    )  # fmt: skip


def _reduced(picture: Picture, grid: Grid, core: float) -> NDArray[np.uint8]:
    count = max(1, min(_SAMPLES, int(np.ceil(grid.cell))))
    while count > 1 and grid.width * grid.height * count * count > _MOST_SAMPLES:
        count -= 1
    values = samples(picture.pixels, grid.columns, grid.rows, count, core)
    solid = values[..., 3] > 127
    opaque = solid.mean(axis=1) > 0.5
    weights = np.where(opaque[:, None], solid, True).astype(np.float32)
    color = _main_color(values[..., :3], weights)
    alpha = np.where(opaque, 255, 0)[:, None]
    flat = np.concatenate([np.round(color), alpha], axis=1).astype(np.uint8)
    return flat.reshape(grid.height, grid.width, 4)


def _main_color(values: Floats, weights: Floats) -> Floats:
    """n x 3 from n x s x 3: of two groups in each cell the larger one's mean, or the mean of all where
    the groups hardly differ."""
    mean = _weighted(values, weights)
    light = values.sum(axis=2)
    upper = light > (mean.sum(axis=1))[:, None]
    high, low = mean, mean
    for _ in range(3):
        high = _weighted(values, weights * upper)
        low = _weighted(values, weights * ~upper)
        upper = _square(values, high) < _square(values, low)
    apart = np.sqrt(((high - low) ** 2).sum(axis=1)) > _APART
    most = (weights * upper).sum(axis=1) * 2 >= weights.sum(axis=1)
    main = np.where(most[:, None], high, low)
    return np.where(apart[:, None], main, mean)


def _weighted(values: Floats, weights: Floats) -> Floats:
    total = np.maximum(weights.sum(axis=1), 1e-6)
    return (values * weights[..., None]).sum(axis=1) / total[:, None]


def _square(values: Floats, centers: Floats) -> Floats:
    off = values - centers[:, None]
    return (off * off).sum(axis=2)
