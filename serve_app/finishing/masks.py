"""Geometry of masks and alpha: growing, connected components, nearest pixels, limited distances.

Knows nothing of colours or pictures. numpy only; every function is exact and deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.finishing.picture import Floats, Mask

_MOST = 90  # pixels
_BLOCK = 65536  # pixels: what is worked on fits a core's cache


def dilate(mask: Mask, diagonal: bool = False) -> Mask:
    """Grown by one pixel to the 4 neighbours, or the 8."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    across = grown.copy() if diagonal else mask
    grown[:, 1:] |= across[:, :-1]
    grown[:, :-1] |= across[:, 1:]
    return grown


def positions(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of its pixels, row by row: `np.nonzero`, in a third of the time."""
    y, x = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return y, x


def disc(radius: float) -> list[tuple[int, int]]:
    """The offsets (dy, dx) at most `radius` away, nearest first."""
    reach = int(radius)
    span = range(-reach, reach + 1)
    found = [(dy, dx) for dy in span for dx in span if dy * dy + dx * dx <= radius * radius]
    return sorted(found, key=lambda o: (o[0] ** 2 + o[1] ** 2, o))


@dataclass(frozen=True)
class Components:
    """4-connected parts of a mask of `shape`, kept as its horizontal runs.

    Run i reaches from `starts[i]` to before `stops[i]`, both flat positions in rows of one pixel more, so
    that no run goes on in the next row. It belongs to component `number[i]`.
    """

    shape: tuple[int, int]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    number: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[np.int32]:
        """The component of each pixel, -1 outside the mask."""
        return self._painted(self.number.astype(np.int32), np.int32(-1))

    def where(self, chosen: NDArray[np.bool_]) -> Mask:
        """The pixels of those components for which `chosen` is true."""
        return self._painted(chosen[self.number], np.False_)

    def touching_border(self) -> NDArray[np.bool_]:
        height, width = self.shape
        row, column = np.divmod(self.starts, width + 1)
        at_border = (row == 0) | (row == height - 1) | (column == 0)
        at_border |= self.stops - row * (width + 1) == width
        touching = np.zeros(len(self.sizes), bool)
        touching[self.number[at_border]] = True
        return touching

    def _painted(self, values: NDArray[Any], elsewhere: np.generic) -> NDArray[Any]:
        """A value for each run, and one for what lies between them."""
        height, width = self.shape
        ends = np.stack([self.starts, self.stops], axis=1).ravel()
        lengths = np.diff(ends, prepend=0, append=height * (width + 1))
        each = np.full(len(lengths), elsewhere, values.dtype)
        each[1::2] = values
        return np.repeat(each, lengths).reshape(height, width + 1)[:, :-1]


def components(mask: Mask) -> Components:
    """Find horizontal runs, join the runs that overlap in neighbouring rows, number the results."""
    height, width = mask.shape
    flat = np.zeros((height, width + 1), bool)
    flat[:, :-1] = mask
    flat = flat.reshape(-1)
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        ends = np.insert(ends, 0, 0)
    starts, stops = ends[::2], ends[1::2]
    # Those of the row above that overlap follow one another.
    first = np.searchsorted(stops, starts - (width + 1), side="right")
    above = np.searchsorted(starts, stops - (width + 1), side="left") - first
    below = np.repeat(np.arange(len(starts)), above)
    nth = np.arange(len(below)) - np.repeat(np.cumsum(above) - above, above)
    root = _joined(np.repeat(first, above) + nth, below, len(starts))
    names, number = np.unique(root, return_inverse=True)
    sizes = np.bincount(number, weights=stops - starts, minlength=len(names)).astype(np.int64)
    return Components(mask.shape, starts, stops, number, sizes)


def _joined(a: NDArray[np.int64], b: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The smallest member of each element's set, when a[i] and b[i] are joined for every i."""
    root = np.arange(count, dtype=np.int64)
    while True:
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        if np.array_equal(low, high):
            return root
        np.minimum.at(root, high, low)
        while not np.array_equal(root, root[root]):
            root = root[root]


def nearest(mask: Mask, radius: int) -> tuple[Floats, NDArray[np.int64]]:
    """For every pixel the distance to the nearest pixel of `mask`, and that pixel's flat index.

    Exact (Euclidean) up to `radius` pixels, at most 90; farther ones have distance inf and index -1. Of
    two as near the one in the nearer column, then to the left, then above.
    """
    if radius > _MOST:
        raise ValueError(f"at most {_MOST} pixels")
    height, width = mask.shape
    side = _step_in_row(mask)
    columns = np.minimum(np.abs(side), radius + 1).astype(np.int32)
    # From the highest bit: square of the distance, columns, whether to the right, whether below.
    key = (columns * columns << 9) + (columns << 2) + ((side > 0) << 1).astype(np.int32)
    distance = np.where(mask, np.float32(0), np.float32(np.inf))
    index = np.where(mask, np.arange(mask.size).reshape(mask.shape), -1)
    rows = max(1, _BLOCK // width)
    for top in range(0, height, rows):
        best = key[top : top + rows].copy()
        for dy in range(-min(radius, top + len(best) - 1), min(radius, height - 1 - top) + 1):
            first, last = max(0, top + dy), min(height, top + dy + len(best))
            part = best[first - top - dy : last - top - dy]
            np.minimum(part, key[first:last] + np.int32((dy * dy << 9) + (dy > 0)), out=part)
        # Most pixels are of the mask or too far away: the rest is for the others.
        of_block = np.flatnonzero((best < (radius * radius + 1) << 9) & ~mask[top : top + rows])
        found, here = best.reshape(-1)[of_block], of_block + top * width
        distance.reshape(-1)[here] = np.sqrt(found >> 9, dtype=np.float32)
        dx = found >> 2 & 127
        dy = np.sqrt((found >> 9) - dx * dx).astype(np.int64)
        dx, dy = np.where(found & 2, dx, -dx), np.where(found & 1, dy, -dy)
        index.reshape(-1)[here] = here + dy * width + dx
    return distance, index


def _step_in_row(mask: Mask) -> NDArray[np.int16]:
    """Columns to the nearest pixel of the mask in the same row, right is positive; more than `_MOST` where
    there is none."""
    width = mask.shape[1]
    column = np.arange(width, dtype=np.int16)
    before = np.where(mask, column, np.int16(-_MOST - 1))
    np.maximum.accumulate(before, axis=1, out=before)
    after = np.where(mask, column, np.int16(width + _MOST))
    np.minimum.accumulate(after[:, ::-1], axis=1, out=after[:, ::-1])
    left, right = column - before, after - column
    return np.where(left <= right, -left, right)
