"""What a ControlNet reads, made from a picture: edges (`canny`) or lines (`lineart`), white on black.

Pure functions on pixels; no torch. They run on the CPU, before an order is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from serve_app.engine.sources import Pixels

Ints = np.ndarray[Any, np.dtype[np.int32]]

WEAK, STRONG = 100, 200
"""Thresholds of `canny`, on the sum of both gradients: those that ControlNets were trained with."""
BLUR = 6.0  # pixels: what is wider is no line
FAINT = 8.0  # of 255: what is fainter says nothing of how strong the lines of a picture are

_STEEP = 2.414213562373095  # tangent of 67.5 degrees


def canny(picture: Pixels) -> Pixels:
    """Edges one pixel wide (Canny, 1986), as OpenCV's function of that name finds them without a blur.

    Of the three colours the one with the strongest gradient counts. (h, w, 3) to (h, w, 3) of 0 and 255.
    """
    dx, dy = _gradients(picture)
    strength = np.abs(dx) + np.abs(dy)
    thin = _thinned(strength, dx, dy)
    edges = _joined(thin & (strength > STRONG), thin & (strength > WEAK))
    return _white_on_black(edges.astype(np.uint8) * 255)


def lineart(picture: Pixels) -> Pixels:
    """What is darker than its surroundings, stretched so that most lines are well seen."""
    image = Image.fromarray(picture)
    around = np.asarray(image.filter(ImageFilter.GaussianBlur(BLUR)), np.float32)
    depth = (around - picture).min(axis=2).clip(0, 255)
    seen = depth[depth > FAINT]
    usual = max(16.0, float(np.median(seen))) if seen.size else 16.0
    return _white_on_black((depth / usual * 127).clip(0, 255).astype(np.uint8))


def unchanged(picture: Pixels) -> Pixels:
    """For pictures that were prepared elsewhere."""
    return picture


PREPARE: dict[str, Callable[[Pixels], Pixels]] = {
    "canny": canny,
    "lineart": lineart,
    "none": unchanged,
}


def _white_on_black(levels: Pixels) -> Pixels:
    return np.repeat(levels[..., None], 3, axis=2)


def _gradients(picture: Pixels) -> tuple[Ints, Ints]:
    """Sobel's, along x and y; edges of the picture go on as they end."""
    around = np.pad(picture.astype(np.int32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = around[:-2] + 2 * around[1:-1] + around[2:]
    columns = around[:, :-2] + 2 * around[:, 1:-1] + around[:, 2:]
    dx, dy = rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]
    channel = (np.abs(dx) + np.abs(dy)).argmax(axis=2)[..., None]
    return (
        np.take_along_axis(dx, channel, 2)[..., 0],
        np.take_along_axis(dy, channel, 2)[..., 0],
    )


def _thinned(strength: Ints, dx: Ints, dy: Ints) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where the strength is greatest across the edge."""
    height, width = strength.shape
    around = np.pad(strength, 1)

    def beside(down: int, right: int) -> Ints:
        return around[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    flat, steep = np.abs(dy) < np.abs(dx) / _STEEP, np.abs(dy) > np.abs(dx) * _STEEP
    falling = (dx ^ dy) < 0
    before = np.select(
        [flat, steep, falling], [beside(0, -1), beside(-1, 0), beside(-1, 1)], beside(-1, -1)
    )
    after = np.select(
        [flat, steep, falling], [beside(0, 1), beside(1, 0), beside(1, -1)], beside(1, 1)
    )
    straight = flat | steep
    return (strength > before) & np.where(straight, strength >= after, strength > after)


def _joined(
    strong: np.ndarray[Any, np.dtype[np.bool_]], weak: np.ndarray[Any, np.dtype[np.bool_]]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The strong ones, and weak ones that touch them through others. Only what was just found is looked
    around."""
    height, width = strong.shape
    left = np.pad(weak & ~strong, 1).ravel()
    found = np.pad(strong, 1).ravel()
    steps = [down * (width + 2) + right for down in (-1, 0, 1) for right in (-1, 0, 1)]
    edge = np.flatnonzero(found)
    while edge.size:
        touched = np.unique(np.concatenate([edge + step for step in steps]))
        edge = touched[left[touched]]
        found[edge], left[edge] = True, False
    return found.reshape(height + 2, width + 2)[1:-1, 1:-1]
