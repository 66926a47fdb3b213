"""Columns hold what was put last under each key, whatever came and went."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.jobs.columns import Columns

KEYS = [f"key {i}" for i in range(40)]
MOVES = st.lists(st.tuples(st.sampled_from(KEYS), st.none() | st.integers(-9, 9)), max_size=120)


@given(MOVES)
def test_they_hold_what_a_dict_would(moves: list[tuple[str, int | None]]) -> None:
    """More keys than there was room for at first, and gaps anywhere."""
    columns, held = Columns("number", "twice"), dict[str, int]()
    for key, number in moves:
        if number is None:
            columns.drop(key)
            held.pop(key, None)
        else:
            columns.put(key, number, 2 * number)
            held[key] = number
    rows = np.arange(len(columns))
    assert dict(zip(columns.keys_of(rows), columns["number"], strict=True)) == held
    assert columns["twice"].tolist() == (2 * columns["number"]).tolist()
    assert all((columns.row(key) is None) == (key not in held) for key in KEYS)


@pytest.mark.parametrize("values", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_a_row_has_a_value_for_each_column(values: Any) -> None:
    with pytest.raises(ValueError, match="broadcast"):
        Columns("a", "b", "c", "d").put("key", 1.0, 2.0, 3.0, 4.0, *values, 5.0)
