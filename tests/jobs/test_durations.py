"""What jobs take is learned from those that ran, and from nothing else."""

from __future__ import annotations

import pytest

from serve_app.jobs.durations import ERRORS, RATE, Durations


def drawn(durations: Durations, count: int, *, work: float, seconds: float, solo: float) -> None:
    """So many jobs of this much work, one after the other; an engine predicts `solo`."""
    now = 0.0
    for number in range(count):
        durations.busy(now)
        durations.admitted(work, solo)
        now += seconds
        durations.ended(work, seconds, now, idle=number == count - 1)


def test_nothing_is_said_before_anything_ran() -> None:
    durations = Durations()
    assert durations.solo(1.0) is None
    assert durations.until_done(1.0, 0.0) is None
    assert durations.pace == 1.0


def test_an_engine_s_prediction_is_believed_at_once_and_corrected_slowly() -> None:
    durations = Durations()
    durations.admitted(2.0, 10.0)
    assert durations.solo(4.0) == pytest.approx(20.0)
    durations.admitted(1.0, 15.0)
    assert durations.solo(1.0) == pytest.approx(5.0 + RATE * 10.0)
    for nonsense in ((0.0, 1.0), (1.0, 0.0), (1.0, -1.0)):
        durations.admitted(*nonsense)
    assert durations.solo(1.0) == pytest.approx(5.0 + RATE * 10.0)


def test_without_a_prediction_the_first_job_s_time_is_taken() -> None:
    durations = Durations()
    durations.busy(0.0)
    durations.ended(2.0, 6.0, 6.0, idle=True)
    assert durations.solo(1.0) == pytest.approx(3.0)
    assert durations.until_done(2.0, 0.0) == pytest.approx(6.0)


@pytest.mark.parametrize("seconds", [1.0, 2.0, 4.0])
def test_the_pace_is_solo_seconds_done_per_second(seconds: float) -> None:
    """Devices that take longer than predicted, or have help, are found out."""
    durations = Durations()
    drawn(durations, 50, work=1.0, seconds=seconds, solo=2.0)
    assert durations.pace == pytest.approx(2.0 / seconds)
    assert durations.until_done(1.0, 9.0) == pytest.approx(10 * seconds, rel=0.02)


def test_jobs_in_company_take_longer_than_the_line_alone_says() -> None:
    """Two at a time, each twice as long: the pace is that of one device, a job's own time is not."""
    durations = Durations()
    now = 0.0
    for _ in range(100):
        durations.busy(now)
        durations.admitted(1.0, 2.0)
        now += 2.0
        durations.ended(1.0, 4.0, now, idle=False)
    assert durations.pace == pytest.approx(1.0)
    assert durations.until_done(1.0, 0.0) == pytest.approx(4.0, rel=0.02)
    assert durations.until_done(1.0, 10.0) == pytest.approx(22.0, rel=0.02)


def test_time_in_which_nothing_ran_slows_no_pace() -> None:
    durations = Durations()
    drawn(durations, 20, work=1.0, seconds=2.0, solo=2.0)
    durations.busy(1e6)
    durations.idle()  # it was cancelled
    durations.busy(2e6)
    durations.ended(1.0, 2.0, 2e6 + 2.0, idle=True)
    assert durations.pace == pytest.approx(1.0)


def test_errors_tell_how_far_the_newest_estimates_were_off() -> None:
    durations = Durations()
    assert durations.errors() == {"count": 0}
    durations.compare(1.0, 1.0)
    assert durations.errors() == {"count": 1}
    for _ in range(ERRORS):
        durations.compare(3.0, 2.0)
    assert durations.errors() == {"count": ERRORS, "median": 0.5, "p95": 0.5}


def test_errors_of_jobs_that_took_no_time_are_finite() -> None:
    durations = Durations()
    for _ in range(2):
        durations.compare(1.0, 0.0)
    assert durations.errors()["median"] == 10.0  # measured against a tenth of a second
