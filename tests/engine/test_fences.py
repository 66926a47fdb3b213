"""Which attempts are dropped: older epochs, and each job's attempts up to a fence."""

from __future__ import annotations

import pytest

from serve_app.engine import fences
from serve_app.engine.fences import Fences


def test_a_drop_holds_for_all_attempts_up_to_its_fence() -> None:
    """Before and after they arrive; the next attempt and other jobs are free."""
    known = Fences()
    known.drop({"a": 3})
    assert [known.dropped("a", 0, fence) for fence in (1, 3, 4)] == [True, True, False]
    assert not known.dropped("b", 0, 1)


def test_an_older_drop_takes_nothing_back() -> None:
    """Broadcasts may arrive in any sequence."""
    known = Fences()
    known.drop({"a": 3})
    known.drop({"a": 1})
    assert known.dropped("a", 0, 3)


def test_a_newer_epoch_drops_every_attempt_of_older_ones() -> None:
    """Also of jobs that were never named; an older epoch changes nothing."""
    known = Fences()
    known.see(2)
    known.see(1)
    assert known.epoch == 2
    assert [known.dropped("a", epoch, 1) for epoch in (1, 2, 3)] == [True, False, False]


def test_a_bounded_number_of_jobs_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job whose drop is oldest is forgotten first; a repeated drop is new."""
    monkeypatch.setattr(fences, "REMEMBERED", 3)
    known = Fences()
    for job in ("a", "b", "c", "a", "d"):
        known.drop({job: 1})
    assert [job for job in "abcd" if known.dropped(job, 0, 1)] == ["a", "c", "d"]
