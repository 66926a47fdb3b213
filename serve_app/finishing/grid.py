"""The grid of pixel art that was drawn larger than its pixels: found, with a confidence, or given.

Knows nothing of colours to choose (pixelate.py). Edges of such a picture lie on lines one cell apart,
so the strength of its edges along each axis has a peak in its spectrum at 1 / cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.finishing.picture import Floats, Pixels

SURE = 0.62
_SMALLEST, _LARGEST = 2.0, 128.0  # pixels a cell
_FEWEST = 12  # cells along the shorter side
_PEAK = 0.6  # of the highest: a lower frequency at least this strong is the fundamental
_SNAP = 0.3  # of a cell: how far a line may lie off its place
_MARGIN = 0.05  # by which a halved picture has to show it better
_PADDING = 16  # times longer, so that the spectrum is read between its points


@dataclass(frozen=True)
class Grid:
    """Lines from 0 to the width and from 0 to the height, the cell's size in pixels, and 0..1."""

    columns: NDArray[np.int64]
    rows: NDArray[np.int64]
    cell: float
    confidence: float

    @property
    def width(self) -> int:
        return len(self.columns) - 1

    @property
    def height(self) -> int:
        return len(self.rows) - 1


def regular(size: tuple[int, int], cells: tuple[int, int]) -> Grid:
    """`cells` equal cells over `size` pixels, both (width, height)."""
    columns, rows = (
        np.round(np.linspace(0, side, count + 1)).astype(np.int64)
        for side, count in zip(size, cells, strict=True)
    )
    return Grid(columns, rows, size[0] / cells[0], 1.0)


def find_grid(pixels: Pixels, expected: float | None = None) -> Grid:
    """The most likely grid. Below SURE there is none: edges lie anywhere, or cells are not flat. `expected`:
    pixels a cell; where a grid of such cells is sure, it is that one.

    A dark outline shows on white only, a light one on black: with alpha both are looked at.
    """
    alpha = pixels[..., 3:].astype(np.float32) / 255
    grounds = (0.0,) if alpha.min() == 1 else (0.0, 255.0)
    seen = [pixels[..., :3] * alpha + ground * (1 - alpha) for ground in grounds]
    if expected is not None:
        best = max((_find(one, expected) for one in seen), key=lambda grid: grid.confidence)
        if best.confidence >= SURE:
            return best
    return max((_best(one, pixels) for one in seen), key=lambda grid: grid.confidence)


def _best(seen: Floats, pixels: Pixels) -> Grid:
    """Large cells with soft edges and noise show better in a smaller picture, so halves are tried too."""
    best, factor = _find(seen), 1
    for _ in range(2):
        seen, factor = _halved(seen), 2 * factor
        if min(seen.shape[:2]) < 4 * _FEWEST:
            break
        found = _find(seen)
        if found.confidence > best.confidence + _MARGIN:
            columns, rows = found.columns * factor, found.rows * factor
            columns[-1], rows[-1] = pixels.shape[1], pixels.shape[0]
            best = Grid(columns, rows, found.cell * factor, found.confidence)
    return best


def _find(seen: Floats, expected: float | None = None) -> Grid:
    height, width = seen.shape[:2]
    nothing = Grid(np.array([0, width]), np.array([0, height]), 0.0, 0.0)
    longest = min(_LARGEST, min(height, width) / _FEWEST)
    if longest < (expected or _SMALLEST) or (expected or _SMALLEST) < _SMALLEST:
        return nothing
    across, down = _edges(seen.transpose(1, 0, 2)), _edges(seen)
    if not across.any() or not down.any():
        return nothing
    cell = _period([across, down], longest) if expected is None else expected
    columns, rows = _lines(across, cell), _lines(down, cell)
    aligned = float(np.sqrt(_alignment(across, cell) * _alignment(down, cell)))
    flat = max(0.0, 2 * _flatness(seen, columns, rows) - 1)
    return Grid(columns, rows, cell, min(aligned, flat))


def _halved(seen: Floats) -> Floats:
    height, width = seen.shape[0] // 2 * 2, seen.shape[1] // 2 * 2
    even = seen[:height, :width]
    return (even[0::2, 0::2] + even[1::2, 0::2] + even[0::2, 1::2] + even[1::2, 1::2]) / 4


def _edges(lines: Floats) -> Floats:
    """Strength of the change before each line but the first (index 0 is 0); noise is taken off."""
    change = np.diff(lines, axis=0)
    strength = np.sqrt(np.einsum("ijk,ijk->i", change, change, dtype=np.float64))
    strength = np.maximum(0, strength - np.percentile(strength, 10))
    return np.concatenate([[0.0], strength])


def _period(profiles: list[Floats], longest: float) -> float:
    """The lowest frequency whose peak is nearly the highest: its multiples peak as well."""
    length = _PADDING * max(len(p) for p in profiles)
    spectrum = sum(np.abs(np.fft.rfft(p, length)) for p in profiles)
    first, last = int(np.ceil(length / longest)), int(length / _SMALLEST)
    power = np.asarray(spectrum)[: last + 1]
    inner = np.arange(max(1, first), last)
    peaks = inner[(power[inner] >= power[inner - 1]) & (power[inner] >= power[inner + 1])]
    if power[last] > power[last - 1]:
        peaks = np.append(peaks, last)
    if not len(peaks):
        return longest
    lowest = int(peaks[power[peaks] >= _PEAK * power[peaks].max()][0])
    return length / (lowest + _vertex(power, lowest))


def _vertex(power: Floats, at: int) -> float:
    """Where between the points around a peak its top lies, -0.5 to 0.5."""
    if at + 1 >= len(power):
        return 0.0
    left, top, right = power[at - 1 : at + 2]
    bend = left - 2 * top + right
    return 0.0 if bend == 0 else float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))


def _lines(profile: Floats, cell: float) -> NDArray[np.int64]:
    """A comb at the phase of the profile, each tooth moved to the strongest edge near by."""
    size = len(profile)
    offset = _offset(profile, cell)
    teeth = np.arange(offset, size - cell / 2, cell)
    reach = int(_SNAP * cell)
    lines = [0]
    for tooth in teeth[teeth > cell / 2]:
        near = np.arange(max(1, round(tooth) - reach), min(size - 1, round(tooth) + reach) + 1)
        pull = profile[near] * (1 - 0.5 * np.abs(near - tooth) / (reach + 1))
        best = int(near[np.argmax(pull)]) if pull.any() else round(tooth)
        if best > lines[-1]:
            lines.append(best)
    return np.array([*lines, size])


def _offset(profile: Floats, cell: float) -> float:
    """Where the comb begins that fits best: the phase at this period."""
    turn = np.exp(-2j * np.pi * np.arange(len(profile)) / cell)
    return -float(np.angle((profile * turn).sum())) * cell / (2 * np.pi) % cell


def _alignment(profile: Floats, cell: float) -> float:
    """The share of the edges' energy within a quarter of a cell from the comb, beyond what chance puts
    there; 0 to 1. Through few edges some comb always fits, so these count for less."""
    place = np.arange(1, len(profile)) - _offset(profile, cell)
    near = np.abs(place - np.round(place / cell) * cell) <= cell / 4
    expected = float(near.mean())
    share = float(profile[1:][near].sum() / profile.sum())
    edges = float(profile.sum() ** 2 / (profile * profile).sum())
    return max(0.0, (share - expected) / max(1e-9, 1 - expected)) * min(1.0, edges / _FEWEST)


def _flatness(seen: Floats, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
    """1 - the spread within the middle of cells / the spread of the picture."""
    whole = float(seen.std(axis=(0, 1)).mean())
    cells = samples(seen, columns, rows, 3, 0.5)
    return max(0.0, 1 - float(cells.std(axis=1).mean()) / max(whole, 1e-9))


def samples(
    values: NDArray[Any],
    columns: NDArray[np.int64],
    rows: NDArray[np.int64],
    count: int,
    core: float,
) -> Floats:
    """cells x count² x channels: values at count x count places, evenly over the middle of each cell;
    `core` is its share of the side."""
    place = 0.5 + core * ((np.arange(count) + 0.5) / count - 0.5)
    x = (columns[:-1, None] + np.diff(columns)[:, None] * place).astype(np.int64)
    y = (rows[:-1, None] + np.diff(rows)[:, None] * place).astype(np.int64)
    taken = values[y[:, :, None, None], x[None, None]]  # rows, count, columns, count, channels
    cells = taken.transpose(0, 2, 1, 3, 4).reshape(-1, count * count, values.shape[2])
    return cells.astype(np.float32)
