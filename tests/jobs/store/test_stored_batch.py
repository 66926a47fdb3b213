"""Rows that stand together are told as runs."""

from __future__ import annotations

from serve_app.jobs.store.stored_batch import runs


def test_runs_are_rows_without_a_gap() -> None:
    assert runs([]) == []
    assert runs([1, 2, 3, 7, 9, 10]) == [(1, 3), (7, 7), (9, 10)]
