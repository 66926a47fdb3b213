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
from serve_app.finishing.matte import Ground, background, extract
from serve_app.finishing.picture import EffectFailed, Mask, Picture, Pixels

_ISLAND = 16  # pixels: the least that is counted as a part of its own
_REFITS = 6
_FAINT_MOST, _SPARED_MOST, _HOLES_MOST = 0.04, 0.01, 0.02
_PIECE, _PIECES_MOST, _SCATTERED = (
    64,
    7,
    0.03,
)  # pixels in a picture of 512 x 512; pieces; their share
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
        pixels, backdrop, ground, faint = matte(picture, backdrop, self.holes)
        picture = _with_doubts(picture, ground, faint)
        if (
            not backdrop.is_tinted
        ):  # a tinted key is made to differ from all that a subject may have
            picture = _with_doubts_of_light(picture, ground, pixels)
        return _reported(picture, pixels, f"from {hex_of(backdrop.color)}", backdrop.sigma)


def matte(
    picture: Picture, backdrop: Backdrop, holes: bool
) -> tuple[Pixels, Backdrop, Ground, float]:
    """The pixels, the backdrop as it is known in the end, what was cut, the share of faint outline."""
    distance = backdrop.distance(picture.rgb)
    ground = background(distance, backdrop, holes)
    for _ in range(0 if backdrop.is_flat else _REFITS):
        # What the border cannot tell of the middle, the background found so far can.
        backdrop, before = refit(backdrop, picture.rgb, ground.outside), ground
        ground = background(backdrop.distance(picture.rgb), backdrop, holes)
        if np.array_equal(ground.outside, before.outside):
            break
    pixels, faint = extract(picture.rgb, backdrop, ground.outside)
    if _is_pixel_art(picture):
        pixels[..., :3], pixels[..., 3] = picture.rgb, np.where(ground.outside, 0, 255)
    return pixels, backdrop, ground, faint


def _with_doubts(picture: Picture, ground: Ground, faint: float) -> Picture:
    """What the colours alone cannot tell."""
    if faint > _FAINT_MOST:
        picture = picture.noted(
            "cutout_uncertain",
            f"{faint:.0%} of the outline hardly differs from the ground: a part of the subject may be"
            " missing. Draw it on another colour.",
            faint=round(faint, 4),
        )
    if (share := _share(ground.spared, ground)) > _SPARED_MOST:
        picture = picture.noted(
            "cutout_uncertain",
            f"{share:.0%} of the subject has the ground's colour, and was kept: it may be ground that shows"
            " inside.",
            spared=round(share, 4),
        )
    return picture


def _with_doubts_of_light(picture: Picture, ground: Ground, pixels: Pixels) -> Picture:
    """On white, grey or black: what of the subject may have had the ground's colour."""
    if (share := _share(ground.holes, ground)) > _HOLES_MOST:
        picture = picture.noted(
            "cutout_holes",
            f"{share:.0%} within the outline has the ground's colour and an edge, and was cut as holes."
            " Where it is a part of the subject, `holes: false` keeps it.",
            share=round(share, 4),
        )
    sizes = components(pixels[..., 3] > 127).sizes
    least = _PIECE * min(1.0, min(pixels.shape[:2]) ** 2 / 512**2)
    pieces = int((sizes >= max(4, least)).sum())
    scattered = 1 - sizes.max(initial=0) / max(1, sizes.sum())
    if pieces > _PIECES_MOST and scattered > _SCATTERED:
        picture = picture.noted(
            "cutout_uncertain",
            f"The subject falls into {pieces} pieces: light parts of it may have been cut. Draw it on"
            " another colour.",
            pieces=pieces,
            scattered=round(float(scattered), 4),
        )
    return picture


def _share(part: Mask, ground: Ground) -> float:
    """Of all within the outline."""
    inside = int((~ground.outside | ground.holes).sum())
    return int(part.sum()) / inside if inside else 0.0


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
    return any(note.code == "cutout_uncertain" for note in cut.notes)


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
