"""Geometry of masks and alpha: growing, connected components, nearest pixels, limited distances.

Knows nothing of colours or pictures. numpy only; every function is exact and deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.finishing.picture import Floats, Mask


def dilate(mask: Mask, diagonal: bool = False) -> Mask:
    """Grown by one pixel to the 4 neighbours, or the 8."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    across = grown.copy() if diagonal else mask
    grown[:, 1:] |= across[:, :-1]
    grown[:, :-1] |= across[:, 1:]
    return grown


def disc(radius: float) -> list[tuple[int, int]]:
    """The offsets (dy, dx) at most `radius` away, nearest first."""
    reach = int(radius)
    span = range(-reach, reach + 1)
    found = [(dy, dx) for dy in span for dx in span if dy * dy + dx * dx <= radius * radius]
    return sorted(found, key=lambda o: (o[0] ** 2 + o[1] ** 2, o))


@dataclass(frozen=True)
class Components:
    """4-connected parts of a mask. `labels` is -1 outside it."""

    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> Mask:
        """The pixels of those components for which `chosen` is true."""
        return np.append(chosen, False)[self.labels]

    def touching_border(self) -> NDArray[np.bool_]:
        rim = self.labels
        seen = np.concatenate([rim[0], rim[-1], rim[:, 0], rim[:, -1]])
        touching = np.zeros(len(self.sizes), bool)
        touching[seen[seen >= 0]] = True
        return touching


def components(mask: Mask) -> Components:
    """Label horizontal runs, join the runs that overlap in neighbouring rows, number the results."""
    height, width = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    count = len(rows)
    if not count:
        return Components(np.full((height, width), -1, np.int32), np.zeros(0, np.int64))
    run_of = np.full((height, width), -1, np.int32)
    run_of[mask] = np.repeat(np.arange(count, dtype=np.int32), stops - starts)
    both = mask[1:] & mask[:-1]
    both[:, 1:] &= ~both[:, :-1]  # one pair per overlap is enough: where it begins
    root = _joined(run_of[:-1][both], run_of[1:][both], count)
    names, number = np.unique(root, return_inverse=True)
    sizes = np.bincount(number, weights=stops - starts, minlength=len(names)).astype(np.int64)
    return Components(np.append(number, -1).astype(np.int32)[run_of], sizes)


def _joined(a: NDArray[np.int32], b: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """The smallest member of each element's set, when a[i] and b[i] are joined for every i."""
    root = np.arange(count, dtype=np.int32)
    while True:
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        if np.array_equal(low, high):
            return root
        np.minimum.at(root, high, low)
        while not np.array_equal(root, root[root]):
            root = root[root]


def nearest(mask: Mask, radius: int) -> tuple[Floats, NDArray[np.int64]]:
    """For every pixel the distance to the nearest pixel of `mask`, and that pixel's flat index.

    Exact (Euclidean) up to `radius` pixels, at most 90; farther ones have distance inf and index -1.
    First the step to the nearest in the same column, then the best of the columns within reach.
    """
    if radius > 90:
        raise ValueError("squares of distances would not fit 16 bits")
    far = np.int16(np.iinfo(np.int16).max // 2)
    step = np.zeros(mask.shape, np.int16)  # to the nearest in the column, down is positive
    column = np.full(mask.shape, far, np.int16)  # its square
    for dy in _farthest_first(radius, mask.shape[0]):
        here, there = _shifted(dy, mask.shape[0])
        np.copyto(step[here], np.int16(dy), where=mask[there])
        np.copyto(column[here], np.int16(dy * dy), where=mask[there])
    best = np.full(mask.shape, far, np.int16)
    side = np.zeros(mask.shape, np.int16)  # to the column of the nearest, right is positive
    for dx in reversed(_farthest_first(radius, mask.shape[1])):
        here, there = _shifted(dx, mask.shape[1])
        square = column[:, there] + np.int16(dx * dx)
        closer = square < best[:, here]
        np.copyto(best[:, here], square, where=closer)
        np.copyto(side[:, here], np.int16(dx), where=closer)
    reached = best <= radius * radius
    y, x = np.nonzero(reached)
    distance = np.full(mask.shape, np.inf, np.float32)
    distance[y, x] = np.sqrt(best[y, x], dtype=np.float32)
    index = np.full(mask.shape, -1, np.int64)
    beside = x + side[y, x]
    index[y, x] = (y + step[y, beside]) * mask.shape[1] + beside
    return distance, index


def _farthest_first(radius: int, size: int) -> list[int]:
    reach = min(radius, size - 1)
    return sorted(range(-reach, reach + 1), key=lambda d: (-abs(d), -d))


def _shifted(by: int, size: int) -> tuple[slice, slice]:
    """The part of an axis that has something `by` places on, and where that is."""
    return slice(max(0, -by), size - max(0, by)), slice(max(0, by), size - max(0, -by))
