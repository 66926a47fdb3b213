"""Times of calls on a device that answers late, with events as a GPU's: they pass when somebody waits."""

from __future__ import annotations

import pytest
import torch

from serve_app.engine.model.call_timer import AHEAD, CallClock
from serve_app.engine.request import Stage

SIZE = (64, 64)


class Event:
    """Of a device on which each thing that is queued takes a second."""

    queued = 0
    passed = 0

    def __init__(self, enable_timing: bool = False) -> None:
        self.at = -1

    def record(self) -> None:
        Event.queued += 1
        self.at = Event.queued

    def synchronize(self) -> None:
        Event.passed = max(Event.passed, self.at)

    def elapsed_time(self, end: Event) -> float:
        assert end.at <= Event.passed, "its time is not known yet"
        return 1000.0 * (end.at - self.at)


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> CallClock:
    Event.queued = Event.passed = 0
    monkeypatch.setattr(torch.cuda, "Event", Event)
    return CallClock(torch.device("cuda"))


def test_the_host_runs_a_little_ahead_and_no_further(clock: CallClock) -> None:
    """Two events a call: before the sixth call starts, all but the last two before it have ended."""
    for _ in range(6):
        with clock.measure(Stage.DENOISING, SIZE, 4):
            pass
    assert Event.queued == 12
    assert Event.passed == 12 - 2 * AHEAD


def test_only_calls_that_have_ended_tell_their_time(clock: CallClock) -> None:
    """Steps and decoding in the order they were made; each once."""
    for stage, number in ((Stage.DENOISING, 4), (Stage.DECODING, 2), (Stage.DENOISING, 3)):
        with clock.measure(stage, SIZE, number):
            pass
    assert clock.take() == [(Stage.DENOISING, SIZE, 4, 1.0)]
    with clock.measure(Stage.DENOISING, SIZE, 1):
        pass
    assert clock.take() == [(Stage.DECODING, SIZE, 2, 1.0)]


def test_who_wants_pixels_waits_for_what_was_queued_before(clock: CallClock) -> None:
    """And not for the calls after it."""
    with clock.measure(Stage.DECODING, SIZE, 1):
        pass
    arrived = clock.so_far()
    with clock.measure(Stage.DENOISING, SIZE, 1):
        pass
    assert Event.passed == 0
    arrived()
    assert Event.passed == 3


def test_a_host_waits_for_nothing() -> None:
    clock = CallClock(torch.device("cpu"))
    with clock.measure(Stage.DENOISING, SIZE, 2):
        pass
    clock.so_far()()
    assert [(t.stage, t.size, t.number) for t in clock.take()] == [(Stage.DENOISING, SIZE, 2)]
