"""Colours as eyes compare them: OKLab, nearest colours, and k colours for a picture.

Knows nothing of palettes' files. Sources: Björn Ottosson's OKLab (2020), matrices as published there.
No matrix product of BLAS is used on pixels: its sums may depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve_app.finishing.picture import Floats

Colors = NDArray[np.uint8]
"""n x 3, sRGB."""

_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
_VALUES = np.arange(256) / 255
_LINEAR = np.where(_VALUES <= 0.04045, _VALUES / 12.92, ((_VALUES + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)


def oklab(colors: Colors) -> Floats:
    """n x 3: lightness 0..1, and a, b within about -0.4..0.4."""
    linear = [_LINEAR[colors[:, c]] for c in range(3)]
    roots = [np.cbrt(_mixed(linear, row)) for row in _LMS]
    return np.stack([_mixed(roots, row) for row in _LAB], axis=1)


def _mixed(parts: list[Floats], row: tuple[float, ...]) -> Floats:
    return sum(
        (np.float32(weight) * part for weight, part in zip(row, parts, strict=True)),
        np.zeros_like(parts[0]),
    )


def square_distance(lab: Floats, to: Floats) -> Floats:
    """From each of n colours to one."""
    d0, d1, d2 = lab[:, 0] - to[0], lab[:, 1] - to[1], lab[:, 2] - to[2]
    return d0 * d0 + d1 * d1 + d2 * d2


def nearest_color(lab: Floats, palette: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Index of the nearest palette colour for each of n, and its squared distance. The first wins a tie."""
    best = np.full(len(lab), np.inf, np.float32)
    index = np.zeros(len(lab), np.int64)
    for number, color in enumerate(palette):
        distance = square_distance(lab, color)
        closer = distance < best
        best[closer] = distance[closer]
        index[closer] = number
    return index, best


def unique_colors(rgb: Colors) -> tuple[Colors, NDArray[np.int64], NDArray[np.int64]]:
    """The different ones of n colours in sorted order, the number of each pixel's, and how often each
    appears."""
    packed = (rgb[:, 0].astype(np.uint32) << 16) | (rgb[:, 1].astype(np.uint32) << 8) | rgb[:, 2]
    values, number, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colors = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1).astype(np.uint8)
    return colors, number, counts


def quantized(rgb: Colors, k: int) -> tuple[Colors, float]:
    """At most k colours for n pixels, and the root mean square error in OKLab. Pixels with at most k
    colours keep them exactly."""
    colors, _, counts = unique_colors(rgb)
    if len(colors) <= k:
        return colors, 0.0
    colors, weights = _binned(colors, counts)
    lab = oklab(colors)
    centers = _spread(lab, weights, k)
    for _ in range(12):
        index, _ = nearest_color(lab, centers)
        moved = _means(lab, weights, index, centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    index, error = nearest_color(lab, centers)
    palette = _means(colors.astype(np.float32), weights, index, np.zeros((k, 3), np.float32))
    used = np.bincount(index, minlength=k) > 0
    rms = float(np.sqrt((error * weights).sum() / weights.sum()))
    return np.unique(np.round(palette[used]).astype(np.uint8), axis=0), rms


def elbow(rgb: Colors, enough: float = 0.025) -> tuple[Colors, float]:
    """The fewest of 4 to 64 colours whose error is not seen at once (OKLab, root mean square)."""
    palette, error = quantized(rgb, 4)
    for k in (6, 8, 12, 16, 24, 32, 48, 64):
        if error <= enough:
            break
        palette, error = quantized(rgb, k)
    return palette, error


def _binned(colors: Colors, counts: NDArray[np.int64]) -> tuple[Colors, Floats]:
    """At most 32,768 colours, by 5 bits a channel, each the mean of what it stands for."""
    if len(colors) <= 4096:
        return colors, counts.astype(np.float32)
    high = colors.astype(np.int64) >> 3
    _, bins = np.unique((high[:, 0] << 10) | (high[:, 1] << 5) | high[:, 2], return_inverse=True)
    weights = np.bincount(bins, weights=counts)
    sums = [np.bincount(bins, weights=counts * colors[:, c]) for c in range(3)]
    return np.round(np.stack(sums, axis=1) / weights[:, None]).astype(np.uint8), weights.astype(
        np.float32
    )


def _spread(lab: Floats, weights: Floats, k: int) -> Floats:
    """k starting colours, with no randomness: the commonest, then always the one worst represented."""
    chosen = [int(np.argmax(weights))]
    distance = square_distance(lab, lab[chosen[0]])
    while len(chosen) < k:
        chosen.append(int(np.argmax(distance * np.sqrt(weights))))
        distance = np.minimum(distance, square_distance(lab, lab[chosen[-1]]))
    return lab[chosen]


def _means(
    values: Floats,
    weights: Floats,
    index: NDArray[np.int64],
    otherwise: Floats,
) -> Floats:
    k = len(otherwise)
    total = np.bincount(index, weights=weights, minlength=k)
    sums = [np.bincount(index, weights=weights * values[:, c], minlength=k) for c in range(3)]
    means = np.stack(sums, axis=1) / np.maximum(total, 1e-9)[:, None]
    return np.where(total[:, None] > 0, means, otherwise).astype(np.float32)
