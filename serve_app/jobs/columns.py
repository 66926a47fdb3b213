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
        self._keys: list[str] = []  # of row 0, 1, ...

    def put(self, key: str, *values: float) -> None:
        """Its row, in the order of the columns; an older one is replaced."""
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._keys)
            self._keys.append(key)
            if row == self._table.shape[1]:
                self._table = np.hstack([self._table, np.zeros_like(self._table)])
        self._table[:, row] = values

    def drop(self, key: str) -> None:
        """Does nothing if there is no such row."""
        row = self._rows.pop(key, None)
        if row is None:
            return
        last = self._keys.pop()
        if last != key:  # it moves into the gap
            self._table[:, row] = self._table[:, len(self._keys)]
            self._keys[row], self._rows[last] = last, row

    def row(self, key: str) -> int | None:
        return self._rows.get(key)

    def keys_of(self, rows: NDArray[np.intp]) -> list[str]:
        return [self._keys[row] for row in rows]

    def __getitem__(self, name: str) -> Floats:
        """A column, as a view that the next `put` or `drop` changes."""
        return self._table[self._index[name], : len(self._keys)]

    def __len__(self) -> int:
        return len(self._keys)
