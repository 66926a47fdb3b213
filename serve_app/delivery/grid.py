"""Grid: sprites of one size in rows and columns, as tilesets want them.

Knows sizes only; other sprites are `maxrects.py`'s matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.delivery.maxrects import Bin, Size, power
from serve_app.delivery.spec import SheetSpec


@dataclass(frozen=True, slots=True)
class Grid:
    """Frames of one size, in rows: frame i of a page is in column i % columns. Lengths are pixels."""

    columns: int
    tile_width: int
    tile_height: int
    margin: int
    spacing: int


def pack_grid(sizes: Sequence[Size], spec: SheetSpec, limit: int) -> tuple[Grid | None, list[Bin]]:
    """Pages of rows and columns, near a square; none when sizes differ. `sizes` are with extrusion, and
    none is longer than `limit`, a page's largest side."""
    if len(set(sizes)) > 1:
        return None, []
    width, height = sizes[0]
    step_x, step_y = width + spec.padding, height + spec.padding

    def sides(columns: int, rows: int) -> tuple[int, int]:
        used = (columns * step_x - spec.padding, rows * step_y - spec.padding)
        return (power(used[0]), power(used[1])) if spec.power_of_two else used

    most_columns = (limit + spec.padding) // step_x
    most_rows = (limit + spec.padding) // step_y
    here = min(len(sizes), most_columns * most_rows)
    shapes = [(n, -(-here // n)) for n in range(min(here, most_columns), 0, -1)]
    columns, rows = min(
        (shape for shape in shapes if shape[1] <= most_rows),
        key=lambda shape: (max(sides(*shape)), math.prod(sides(*shape))),
    )
    bins: list[Bin] = []
    for first in range(0, len(sizes), columns * rows):
        count = min(columns * rows, len(sizes) - first)
        places = {first + i: (i % columns * step_x, i // columns * step_y) for i in range(count)}
        bins.append(Bin(*sides(min(columns, count), -(-count // columns)), places))
    spacing = spec.padding + 2 * spec.extrude
    tile_width, tile_height = width - 2 * spec.extrude, height - 2 * spec.extrude
    return Grid(columns, tile_width, tile_height, spec.extrude, spacing), bins
