"""Columns: numbers of many keys, held so that a look at all of them is a few numpy operations.

Knows names and numbers; nothing of what they mean. A look at a thousand rows takes some microseconds, where a
walk over as many objects takes a millisecond.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Columns:
    """A table without an order: one row for each key, one float in each column."""

    def __init__(self, *names: str) -> None:
        self._index = {name: column for column, name in enumerate(names)}
        self._table: Floats = np.zeros((len(names), 16))
        self._rows: dict[str, int] = {}
        self._keys = np.empty(16, dtype=object)  # of row 0, 1, ...

    def put(self, key: str, *values: float) -> None:
        """Its row, in the order of the columns; an older one is replaced."""
        row = self._rows.get(key)
        if row is None:
            row = len(self._rows)
            if row == len(self._keys):
                self._table = np.hstack([self._table, np.zeros_like(self._table)])
                self._keys = np.concatenate([self._keys, np.empty_like(self._keys)])
            self._rows[key], self._keys[row] = row, key
        self._table[:, row] = values

    def drop(self, key: str) -> None:
        """Does nothing if there is no such row."""
        row = self._rows.pop(key, None)
        if row is None:
            return
        end = len(self._rows)
        last, self._keys[end] = self._keys[end], None
        if last != key:  # it moves into the gap
            self._table[:, row] = self._table[:, end]
            self._keys[row], self._rows[last] = last, row

    def row(self, key: str) -> int | None:
        return self._rows.get(key)

    def keys_of(self, rows: NDArray[np.intp]) -> NDArray[np.object_]:
        return self._keys[rows]

    def __getitem__(self, name: str) -> Floats:
        """A column, as a view that the next `put` or `drop` changes."""
        return self._table[self._index[name], : len(self._rows)]

    def __len__(self) -> int:
        return len(self._rows)
