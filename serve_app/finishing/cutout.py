"""cutout: the subject alone, its ground made transparent, without a fringe of the ground's colour.

Knows nothing of how a mask network works (network.py) or of mixes along an edge (matte.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from serve_app.finishing import network
from serve_app.finishing.backdrop import Backdrop, find_backdrop, refit
from serve_app.finishing.base import NO_WEIGHTS, ModelEffect, Weights, hex_of
from serve_app.finishing.colors import unique_colors
from serve_app.finishing.masks import components
from serve_app.finishing.matte import background, extract
from serve_app.finishing.picture import EffectFailed, Picture, Pixels

_ISLAND = 16  # pixels: the least that is counted as a part of its own
_REFITS = 6
_FAINT_MOST = 0.2
_PIXEL_ART_SIZE, _PIXEL_ART_COLORS = 256 * 256, 64


class Cutout(ModelEffect):
    """Make the ground around the subject transparent and free the edges from its colour."""

    example: ClassVar[Mapping[str, Any]] = {"op": "cutout"}

    op: Literal["cutout"] = "cutout"
    method: Literal["auto", "matte", "network"] = Field(
        default="auto",
        description="`matte` needs a ground of one colour or a smooth change of it. `network` asks the"
        " learned model that the server has. `auto` takes the matte; where that is in doubt the network;"
        " without one, a picture whose ground is not known stays as it is.",
    )
    holes: bool = Field(
        default=True, description="Also cut the ground that shows inside the subject."
    )

    def apply(self, picture: Picture, weights: Weights = NO_WEIGHTS) -> Picture:
        if picture.has_alpha:
            return picture.noted("cutout_skipped", "The picture has transparent parts already.")
        if self.method != "network":
            backdrop = find_backdrop(picture.rgb)
            sure = backdrop.believable or self.method == "matte"
            cut = self._by_matte(picture, backdrop) if sure else _uncertain(picture, backdrop)
            if self.method == "matte" or weights.matting is None or not _doubted(cut):
                return cut
        if weights.matting is None:
            raise EffectFailed("cutout: no matting network is configured on this server")
        return _reported(picture, network.cut(picture.rgb, weights.matting), "by the network")

    def _by_matte(self, picture: Picture, backdrop: Backdrop) -> Picture:
        if not backdrop.believable:
            picture = _uncertain(picture, backdrop)
        pixels, backdrop, faint = matte(picture, backdrop, self.holes)
        if faint > _FAINT_MOST:
            picture = picture.noted(
                "cutout_faint",
                f"{faint:.0%} of the outline hardly differs from the ground: a part of the subject may"
                " be missing. Draw it on another colour.",
                faint=round(faint, 4),
            )
        return _reported(picture, pixels, f"from {hex_of(backdrop.color)}", backdrop.sigma)


def matte(picture: Picture, backdrop: Backdrop, holes: bool) -> tuple[Pixels, Backdrop, float]:
    """The pixels, the backdrop as it is known in the end, the share of faint outline."""
    distance = backdrop.distance(picture.rgb)
    outside = background(distance, backdrop, holes)
    for _ in range(0 if backdrop.is_flat else _REFITS):
        # What the border cannot tell of the middle, the background found so far can.
        backdrop, before = refit(backdrop, picture.rgb, outside), outside
        outside = background(backdrop.distance(picture.rgb), backdrop, holes)
        if np.array_equal(outside, before):
            break
    pixels, faint = extract(picture.rgb, backdrop, outside)
    if _is_pixel_art(picture):
        pixels[..., :3], pixels[..., 3] = picture.rgb, np.where(outside, 0, 255)
    return pixels, backdrop, faint


def _is_pixel_art(picture: Picture) -> bool:
    """Small and of few colours: its edges are hard, and a pixel between two others is no mix of them."""
    if picture.width * picture.height > _PIXEL_ART_SIZE:
        return False
    return len(unique_colors(picture.rgb.reshape(-1, 3))[0]) <= _PIXEL_ART_COLORS


def _uncertain(picture: Picture, backdrop: Backdrop) -> Picture:
    return picture.noted(
        "cutout_uncertain",
        f"The border is not of one colour (spread {backdrop.sigma:.1f},"
        f" {backdrop.share:.0%} of it fits), so the ground is not known.",
        sigma=round(backdrop.sigma, 3),
        share=round(backdrop.share, 4),
    )


def _doubted(cut: Picture) -> bool:
    """By the matte itself."""
    return any(note.code in ("cutout_uncertain", "cutout_faint") for note in cut.notes)


def _reported(picture: Picture, pixels: Pixels, how: str, sigma: float = 0.0) -> Picture:
    """What there is to know about a cut: how much is left, how much of it is edge, and what touches
    the border."""
    cut = picture.with_pixels(pixels)
    alpha = cut.alpha
    if not alpha.any():
        return cut.noted(
            "cutout_empty", "All of the picture is ground: nothing is left.", coverage=0
        )
    if not cut.has_alpha:
        return cut.noted("cutout_full", "No ground was found: nothing was cut.", coverage=1)
    solid = alpha > 127
    rim = np.concatenate([solid[0], solid[-1], solid[:, 0], solid[:, -1]])
    islands = int((components(solid).sizes >= _ISLAND).sum())
    inside = components(~solid)
    holes = int(((inside.sizes >= _ISLAND) & ~inside.touching_border()).sum())
    return cut.noted(
        "cutout",
        f"Cut {how}: the subject covers {cut.coverage:.0%} of the picture,"
        f" in {islands} part(s) with {holes} hole(s).",
        coverage=round(cut.coverage, 4),
        soft_edge=round(float(((alpha > 0) & (alpha < 255)).mean()), 4),
        border_leak=round(float(rim.mean()), 4),
        islands=islands,
        holes=holes,
        sigma=round(sigma, 3),
    )
