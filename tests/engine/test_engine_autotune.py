"""What autotune tries and what it recommends; its measurements need an idle machine."""

from __future__ import annotations

from serve_app.engine.autotune import Trial, recommendation, splits


def test_all_cores_are_used_and_none_is_shared() -> None:
    """Each split multiplies to the number of cores."""
    assert splits(6) == [(1, 6), (2, 3), (3, 2), (6, 1)]


def test_a_few_percent_do_not_buy_a_second_copy_of_the_weights() -> None:
    """Two replicas must win by more than 5 %; a slow dtype loses by itself."""
    trials = [
        Trial("float32", 1, 2, 96.0, 1.0),
        Trial("bfloat16", 1, 2, 60.0, 1.0),
        Trial("float32", 2, 1, 100.0, 1.0),
    ]
    assert "dtype: float32, threads: 2" in recommendation(trials)
    assert "2 replica" in recommendation([*trials, Trial("float32", 2, 1, 120.0, 1.0)])
