"""What autotune tries and what it recommends; its measurements need an idle machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.tools.autotune import ColdStart, Trial, recommendation, run, splits
from tests.engine import tiny

START = ColdStart(2.0, 1.0, 0.5)


def test_all_cores_are_used_and_none_is_shared() -> None:
    """Replicas x threads is the number of cores."""
    assert splits(6) == [(1, 6), (2, 3), (3, 2), (6, 1)]


def test_two_replicas_are_recommended_only_if_they_are_clearly_faster() -> None:
    """By more than 5 %, because each one holds a copy of the weights."""
    trials = [
        Trial("float32", 1, 2, 96.0, START),
        Trial("bfloat16", 1, 2, 60.0, START),
        Trial("float32", 2, 1, 100.0, START),
    ]
    assert "dtype: float32, threads: 2" in recommendation(trials)
    assert "2 replica" in recommendation([*trials, Trial("float32", 2, 1, 120.0, START)])


def test_a_replica_that_fails_is_not_waited_for(tmp_path: Path) -> None:
    """Otherwise the other one would wait at the barrier for ever."""
    with pytest.raises(SystemExit, match="failed"):
        run(tiny.spec(), "float32", 2, 1, 0.05, tmp_path / "nothing here")


def test_replicas_of_a_real_checkpoint_are_measured_side_by_side(tmp_path: Path) -> None:
    """Two processes load, wait for each other and count; the cold start is split into its parts."""
    tiny.save(tiny.pipeline(), tmp_path / "tiny")
    trial = run(tiny.spec(), "float32", 2, 1, 0.05, tmp_path)
    assert trial.rows_per_second > 0
    assert min(trial.cold_start) > 0
