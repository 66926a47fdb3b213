"""palette: few colours, found for the picture or locked to a list.

Knows nothing of where palettes lie: `with_palettes` puts a named one's colours into the effect before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from serve_app.finishing.base import BaseEffect, HexColor, rgb_of
from serve_app.finishing.colors import (
    Colors,
    elbow,
    nearest_color,
    oklab,
    quantized,
    square_distance,
    unique_colors,
)
from serve_app.finishing.picture import EffectFailed, Floats, Picture

_BAYER2 = np.array([[0, 2], [3, 1]])
_BAYER4 = np.block([[4 * _BAYER2 + v for v in row] for row in _BAYER2.tolist()])
_BAYER8 = np.block([[4 * _BAYER4 + v for v in row] for row in _BAYER2.tolist()])
THRESHOLDS = {"bayer4": (_BAYER4 + 0.5) / 16, "bayer8": (_BAYER8 + 0.5) / 64}
_FAR_PAIR = 0.6  # what it costs to mix colours that lie far apart


class PaletteEffect(BaseEffect):
    """Use few colours: `colors` is how many (left out: as few as look alike) or which; `name` a palette
    of the server. Afterwards alpha is 0 or 255."""

    example: ClassVar[Mapping[str, Any]] = {"op": "palette", "colors": 16, "dither": "none"}

    op: Literal["palette"] = "palette"
    colors: (
        Annotated[int, Field(ge=2, le=256)]
        | Annotated[tuple[HexColor, ...], Field(min_length=1, max_length=256)]
        | None
    ) = Field(default=None, description="2 to 256, or 1 to 256 colours as `#rrggbb`.")
    name: str | None = Field(
        default=None, max_length=64, description="A palette that the server lists."
    )
    dither: Literal["none", "bayer4", "bayer8"] = Field(
        default="none", description="Ordered patterns; they stay put from frame to frame."
    )

    @model_validator(mode="after")
    def _one_way(self) -> PaletteEffect:
        if self.name is not None and isinstance(self.colors, int):
            raise ValueError("a named palette has its own number of colours: leave out one of them")
        return self

    def apply(self, picture: Picture) -> Picture:
        if self.name is not None and self.colors is None:
            raise EffectFailed(f"palette: the colours of {self.name!r} have not been looked up")
        solid = picture.alpha > 127
        if not solid.any():
            return picture.with_pixels(np.zeros_like(picture.pixels)).noted(
                "palette_empty", "Every pixel is transparent: no colours were looked for."
            )
        rgb = picture.rgb[solid]
        palette, error = self._palette(rgb)
        dots = None if self.dither == "none" else _tiled(THRESHOLDS[self.dither], solid)
        pixels = np.zeros_like(picture.pixels)
        pixels[..., :3] = palette[0]  # transparent pixels too hold a colour of the palette
        pixels[solid, :3], used = mapped(rgb, palette, dots)
        pixels[solid, 3] = 255
        return picture.with_pixels(pixels).noted(
            "palette",
            f"{used} of {len(palette)} colours are used; mean error {error:.3f} (OKLab).",
            colors=len(palette), used=used, error=round(error, 4),
        )  # fmt: skip

    def _palette(self, rgb: Colors) -> tuple[Colors, float]:
        if isinstance(self.colors, tuple):
            locked = np.array([rgb_of(color) for color in self.colors], np.uint8)
            colors, _, counts = unique_colors(rgb)
            _, square = nearest_color(oklab(colors), oklab(locked))
            return locked, float(np.sqrt((square * counts).sum() / counts.sum()))
        return elbow(rgb) if self.colors is None else quantized(rgb, self.colors)


def mapped(rgb: Colors, palette: Colors, thresholds: Floats | None) -> tuple[Colors, int]:
    """Each of n pixels as a colour of the palette, and how many of these are used. With thresholds,
    one per pixel, a colour between two of them is mixed from both."""
    colors, number, _ = unique_colors(rgb)
    lab, palette_lab = oklab(colors), oklab(palette)
    first, _ = nearest_color(lab, palette_lab)
    chosen = first[number]
    if thresholds is not None:
        second, share = _partner(lab, palette_lab, first)
        chosen = np.where(thresholds < share[number], second[number], chosen)
    return palette[chosen], len(np.unique(chosen))


def _partner(
    lab: Floats, palette: Floats, first: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats]:
    """The second colour to mix each one from, and its share, 0 to 0.5."""
    start = palette[first]
    best = square_distance(lab - start, np.zeros(3, np.float32))
    partner, share = first.copy(), np.zeros(len(lab), np.float32)
    for number, color in enumerate(palette):
        line = color - start
        length = square_distance(line, np.zeros(3, np.float32))
        along = ((lab - start) * line).sum(axis=1) / np.maximum(length, 1e-9)
        along = np.clip(along, 0, 0.5)
        miss = square_distance(lab - start - along[:, None] * line, np.zeros(3, np.float32))
        cost = miss + _FAR_PAIR * along * (1 - along) * length
        better = cost < best
        best[better], partner[better], share[better] = cost[better], number, along[better]
    return partner, share


def _tiled(thresholds: Floats, solid: NDArray[np.bool_]) -> Floats:
    height, width = solid.shape
    size = len(thresholds)
    tiles = np.tile(thresholds, (-(-height // size), -(-width // size)))
    return tiles[:height, :width][solid]
