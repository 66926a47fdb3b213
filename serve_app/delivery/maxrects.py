"""MaxRects: places rectangles into pages without overlap and without turning them.

Knows sizes only. After J. Jylänki, "A Thousand Ways to Pack the Bin" (2010), rule bottom-left. The
free rectangles of a page are rows of one array, so that a placement costs a few numpy calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""Width, height."""

# Widths of the pages tried, over the side of a square of the same area. 41 widths instead of these 9
# filled pages of 50 sprites by 1 % more, for five times the time.
SHARES = (0.8, 0.88, 0.96, 1.04, 1.12, 1.2, 1.28, 1.36, 1.44)


@dataclass(frozen=True, slots=True)
class Bin:
    """One page: its size, and index of rectangle -> left, top."""

    width: int
    height: int
    places: dict[int, tuple[int, int]]


def pack(sizes: Sequence[Size], max_size: int, gap: int, power_of_two: bool) -> list[Bin]:
    """As few pages as it finds, each as small as it finds; equal input gives equal pages.

    `gap` pixels stay free between rectangles, not at a page's edge. No side of a rectangle may be
    longer than `max_size`, which with `power_of_two` has to be one.
    """
    # A gap to the right of and below each, and a page longer by one gap: the same, without gaps.
    padded = [(width + gap, height + gap) for width, height in sizes]
    waiting = sorted(range(len(sizes)), key=lambda i: (-padded[i][1], -padded[i][0], i))
    bins: list[Bin] = []
    while waiting:
        best = _page(padded, waiting, max_size, gap, power_of_two)
        bins.append(best)
        waiting = [i for i in waiting if i not in best.places]
    return bins


def _page(
    sizes: Sequence[Size], waiting: Sequence[int], max_size: int, gap: int, power_of_two: bool
) -> Bin:
    """The smallest of the pages that hold all, or a full one of the largest size."""
    rectangles = [(i, *sizes[i]) for i in waiting]
    area = sum(width * height for _, width, height in rectangles)
    widest = max(width for _, width, _ in rectangles) - gap
    holding: list[Bin] = []
    for width in _widths(math.sqrt(area), widest, power_of_two):
        if width <= max_size:
            one = _filled(rectangles, width, max_size, gap, power_of_two)
            if len(one.places) == len(waiting):
                holding.append(one)
    if not holding:
        return _filled(rectangles, max_size, max_size, gap, power_of_two)
    return min(holding, key=lambda one: (one.width * one.height, max(one.width, one.height)))


def _widths(side: float, widest: int, power_of_two: bool) -> list[int]:
    """Of pages near a square of this side, none too narrow for the widest rectangle."""
    if power_of_two:
        near = power(math.ceil(side))
        return sorted({max(width, power(widest)) for width in (near // 2, near)})
    return sorted({max(math.ceil(side * share), widest) for share in SHARES})


def _filled(
    rectangles: Sequence[tuple[int, int, int]],
    width: int,
    height: int,
    gap: int,
    power_of_two: bool,
) -> Bin:
    """A page cut to what is used of it."""
    places = _fill(rectangles, width + gap, height + gap)
    placed = [(*places[i], w, h) for i, w, h in rectangles if i in places]
    right = max(x + w for x, _, w, _ in placed) - gap
    bottom = max(y + h for _, y, _, h in placed) - gap
    if power_of_two:
        right, bottom = power(right), power(bottom)
    return Bin(right, bottom, places)


def power(side: int) -> int:
    """The smallest power of two that is not below `side`."""
    return 1 << (side - 1).bit_length()


def _fill(
    rectangles: Sequence[tuple[int, int, int]], width: int, height: int
) -> dict[int, tuple[int, int]]:
    """Each rectangle as high up as it goes, then as far left; those that do not fit are left out."""
    free = np.array([[0, 0, width, height]], dtype=np.int64)  # left, top, right, bottom
    places: dict[int, tuple[int, int]] = {}
    for index, w, h in rectangles:
        fits = free[(free[:, 2] - free[:, 0] >= w) & (free[:, 3] - free[:, 1] >= h)]
        if not fits.size:
            continue
        x, y = fits[np.lexsort((fits[:, 0], fits[:, 1]))[0], :2].tolist()
        places[index] = (x, y)
        free = _without(free, x, y, x + w, y + h)
    return places


def _without(
    free: NDArray[np.int64], left: int, top: int, right: int, bottom: int
) -> NDArray[np.int64]:
    """The largest free rectangles once this one is taken; none lies within another."""
    hit = (free[:, 0] < right) & (free[:, 2] > left) & (free[:, 1] < bottom) & (free[:, 3] > top)
    cut, kept = free[hit], free[~hit]
    parts = [
        np.column_stack([cut[:, 0], cut[:, 1], np.minimum(cut[:, 2], left), cut[:, 3]]),
        np.column_stack([np.maximum(cut[:, 0], right), cut[:, 1], cut[:, 2], cut[:, 3]]),
        np.column_stack([cut[:, 0], cut[:, 1], cut[:, 2], np.minimum(cut[:, 3], top)]),
        np.column_stack([cut[:, 0], np.maximum(cut[:, 1], bottom), cut[:, 2], cut[:, 3]]),
    ]
    pieces = np.concatenate(parts)
    pieces = pieces[(pieces[:, 0] < pieces[:, 2]) & (pieces[:, 1] < pieces[:, 3])]
    everything = np.concatenate([kept, pieces])
    # What was free before cannot lie within a piece: it would have lain within what was cut. Nor are
    # two pieces equal: what they were cut from would have lain one within the other.
    within = (
        (everything[:, 0] <= pieces[:, None, 0])
        & (everything[:, 1] <= pieces[:, None, 1])
        & (everything[:, 2] >= pieces[:, None, 2])
        & (everything[:, 3] >= pieces[:, None, 3])
    ).sum(axis=1) > 1  # each lies within itself
    return np.concatenate([kept, pieces[~within]])
