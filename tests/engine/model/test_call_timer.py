"""Times of calls on a pretended GPU, whose events pass only when the host waits for them."""

from __future__ import annotations

import pytest
import torch

from serve_app.engine.model.call_timer import AHEAD, CallTimer
from serve_app.engine.request import Stage

SIZE = (64, 64)


class Event:
    """An event of a device on which everything that is queued takes a second."""

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
        assert end.at <= Event.passed, "a GPU event has no time before it has passed"
        return 1000.0 * (end.at - self.at)


@pytest.fixture(name="timer")
def _timer(monkeypatch: pytest.MonkeyPatch) -> CallTimer:
    Event.queued = Event.passed = 0
    monkeypatch.setattr(torch.cuda, "Event", Event)
    return CallTimer(torch.device("cuda"), "tiny")


def test_the_host_runs_at_most_two_calls_ahead(timer: CallTimer) -> None:
    """Each call has two events. When the sixth call starts, all but the two calls before it have ended."""
    for _ in range(6):
        with timer.measure(Stage.DENOISING, SIZE, 4):
            pass
    assert Event.queued == 12
    assert Event.passed == 12 - 2 * AHEAD


def test_only_calls_that_have_ended_are_reported(timer: CallTimer) -> None:
    """Each once, in the sequence in which they were made."""
    for stage, number in ((Stage.DENOISING, 4), (Stage.DECODING, 2), (Stage.DENOISING, 3)):
        with timer.measure(stage, SIZE, number):
            pass
    assert timer.take() == [("tiny", Stage.DENOISING, SIZE, 4, 1.0)]
    with timer.measure(Stage.DENOISING, SIZE, 1):
        pass
    assert timer.take() == [("tiny", Stage.DECODING, SIZE, 2, 1.0)]


def test_a_mark_waits_for_what_was_queued_before_it(timer: CallTimer) -> None:
    """And not for the calls after it."""
    with timer.measure(Stage.DECODING, SIZE, 1):
        pass
    arrived = timer.mark()
    with timer.measure(Stage.DENOISING, SIZE, 1):
        pass
    assert Event.passed == 0
    arrived()
    assert Event.passed == 3


def test_on_a_cpu_a_call_is_over_when_it_returns() -> None:
    """So there is nothing to wait for."""
    timer = CallTimer(torch.device("cpu"))
    with timer.measure(Stage.DENOISING, SIZE, 2):
        pass
    timer.mark()()
    assert [(t.stage, t.size, t.number) for t in timer.take()] == [(Stage.DENOISING, SIZE, 2)]
