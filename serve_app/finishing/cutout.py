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
from serve_app.finishing.base import NO_WEIGHTS, EffectFailed, ModelEffect, Weights, hex_of
from serve_app.finishing.masks import components
from serve_app.finishing.matte import background, extract
from serve_app.finishing.picture import Picture, Pixels

_ISLAND = 16  # pixels: the least that is counted as a part of its own
_FAINT_MOST = 0.2


class Cutout(ModelEffect):
    """Make the ground around the subject transparent and free the edges from its colour."""

    example: ClassVar[Mapping[str, Any]] = {"op": "cutout"}

    op: Literal["cutout"] = "cutout"
    method: Literal["auto", "matte", "network"] = Field(
        default="auto",
        description="`matte` needs a ground of one colour or a smooth change of it. `network` asks the"
        " learned model that the server has. `auto` takes the matte, or else the network, or else"
        " leaves the picture as it is and says so.",
    )
    holes: bool = Field(
        default=True, description="Also cut the ground that shows inside the subject."
    )

    def apply(self, picture: Picture, weights: Weights = NO_WEIGHTS) -> Picture:
        if self.method == "network" and weights.matting is None:
            raise EffectFailed("cutout: no matting network is configured on this server")
        if picture.has_alpha:
            return picture.noted("cutout_skipped", "The picture has transparent parts already.")
        if self.method == "network" and weights.matting is not None:
            return _reported(picture, network.cut(picture.rgb, weights.matting), "network", 0.0)
        backdrop = find_backdrop(picture.rgb)
        if not backdrop.believable and self.method == "auto":
            if weights.matting is not None:
                return _reported(picture, network.cut(picture.rgb, weights.matting), "network", 0.0)
            return _uncertain(picture, backdrop, "nothing was cut")
        pixels, backdrop, faint = matte(picture, backdrop, self.holes)
        if not backdrop.believable:
            picture = _uncertain(picture, backdrop, "the edges need a look")
        if faint > _FAINT_MOST:
            picture = picture.noted(
                "cutout_faint",
                f"{faint:.0%} of the outline hardly differs from the ground: a part of the subject may"
                " be missing. Draw it on another colour.",
                faint=round(faint, 4),
            )
        return _reported(picture, pixels, hex_of(backdrop.color), backdrop.sigma)


def matte(picture: Picture, backdrop: Backdrop, holes: bool) -> tuple[Pixels, Backdrop, float]:
    """The pixels, the backdrop as it is known in the end, the share of faint outline."""
    distance = backdrop.distance(picture.rgb)
    outside = background(distance, backdrop, holes)
    if (
        not backdrop.is_flat
    ):  # what the border could not tell of the middle, the background itself can
        backdrop = refit(backdrop, picture.rgb, outside)
        outside = background(backdrop.distance(picture.rgb), backdrop, holes)
    pixels, faint = extract(picture.rgb, backdrop, outside)
    return pixels, backdrop, faint


def _uncertain(picture: Picture, backdrop: Backdrop, then: str) -> Picture:
    return picture.noted(
        "cutout_uncertain",
        f"The border is not of one colour (spread {backdrop.sigma:.1f},"
        f" {backdrop.share:.0%} of it fits): {then}.",
        sigma=round(backdrop.sigma, 3),
        share=round(backdrop.share, 4),
    )


def _reported(picture: Picture, pixels: Pixels, ground: str, sigma: float) -> Picture:
    """What there is to know about a cut: how much is left, how much of it is edge, and what touches
    the border."""
    cut = picture.with_pixels(pixels)
    alpha = cut.alpha
    rim = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
    leak = float((rim > 127).mean())
    soft = float(((alpha > 0) & (alpha < 255)).mean())
    islands = int((components(alpha > 127).sizes >= _ISLAND).sum())
    inside = components(alpha <= 127)
    holes = int(((inside.sizes >= _ISLAND) & ~inside.touching_border()).sum())
    if not (alpha > 0).any():
        return cut.noted(
            "cutout_empty", f"All of the picture is the ground ({ground}).", coverage=0.0
        )
    if not (alpha < 255).any():
        return cut.noted("cutout_full", "No ground was found: nothing was cut.", coverage=1.0)
    return cut.noted(
        "cutout",
        f"Cut from {ground}: the subject covers {cut.coverage:.0%} of the picture,"
        f" in {islands} part(s) with {holes} hole(s).",
        coverage=round(cut.coverage, 4),
        soft_edge=round(soft, 4),
        border_leak=round(leak, 4),
        islands=islands,
        holes=holes,
        sigma=round(sigma, 3),
    )
