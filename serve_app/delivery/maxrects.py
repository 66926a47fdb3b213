"""MaxRects: places rectangles into pages without overlap and without turning them.

Knows sizes only. After J. Jylänki, "A Thousand Ways to Pack the Bin" (2010), rule bottom-left. The
free rectangles of a page are rows of one array, so that a placement costs a few numpy calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""Width, height."""

WIDTHS = 9  # pages tried; more gained less than 0.5 % in the benchmark's sets


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
        best = min(_candidates(padded, waiting, max_size, gap, power_of_two), key=_worth)
        bins.append(best)
        waiting = [i for i in waiting if i not in best.places]
    return bins


def _worth(page: Bin) -> tuple[int, int, int]:
    return (-len(page.places), page.width * page.height, max(page.width, page.height))


def _candidates(
    sizes: Sequence[Size], waiting: Sequence[int], max_size: int, gap: int, power_of_two: bool
) -> Iterator[Bin]:
    """Pages of several widths, near a square. A width at which not all fit only counts if no other
    does better, so the widest one is always tried."""
    area = sum(sizes[i][0] * sizes[i][1] for i in waiting)
    widest = max(sizes[i][0] for i in waiting) - gap
    for width in _widths(math.sqrt(area), widest, max_size, power_of_two):
        places = _fill([(i, *sizes[i]) for i in waiting], width + gap, max_size + gap)
        right = max(x + sizes[i][0] for i, (x, _) in places.items()) - gap
        bottom = max(y + sizes[i][1] for i, (_, y) in places.items()) - gap
        if power_of_two:
            right, bottom = power(right), power(bottom)
        yield Bin(right, bottom, places)


def _widths(side: float, widest: int, max_size: int, power_of_two: bool) -> list[int]:
    if side > max_size:  # several pages: fill this one
        return [max_size]
    if power_of_two:
        wanted = [power(math.ceil(side)) // 2, power(math.ceil(side)), power(widest)]
        wanted = [max(width, power(widest)) for width in wanted]
    else:
        wanted = [max(widest, math.ceil(side * (0.92 + 0.03 * i))) for i in range(WIDTHS)]
    return sorted({min(width, max_size) for width in [*wanted, max_size]})


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
