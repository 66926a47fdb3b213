"""CallClock: how long model calls took, without ever waiting for the newest one.

Knows torch devices and sizes; nothing of requests. On a GPU calls are only queued, so their times
are read from events once they have passed, and the host runs at most `AHEAD` calls in front.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from serve_app.engine.costs import Size
from serve_app.engine.request import Stage

AHEAD = 2  # further ahead, a drop or a deadline would be late by that many calls


class Timing(NamedTuple):
    """One call that has ended; `number` is its UNet rows, or the images it decoded."""

    stage: Stage
    size: Size
    number: int
    seconds: float


class CallClock:
    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._running: deque[tuple[Stage, Size, int, Any, Any]] = deque()
        self._done: list[Timing] = []

    @contextmanager
    def measure(self, stage: Stage, size: Size, number: int) -> Generator[None]:
        if not self._cuda:
            began = time.perf_counter()
            yield
            self._done.append(Timing(stage, size, number, time.perf_counter() - began))
            return
        while len(self._running) >= AHEAD:
            self._read_oldest()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._running.append((stage, size, number, begin, end))

    def so_far(self) -> Callable[[], None]:
        """Waits, in any thread, until all that has been queued by now has run."""
        if not self._cuda:
            return lambda: None
        event = torch.cuda.Event()
        event.record()
        return event.synchronize

    def take(self) -> list[Timing]:
        """The calls that have ended since the last time."""
        done, self._done = self._done, []
        return done

    def _read_oldest(self) -> None:
        stage, size, number, begin, end = self._running.popleft()
        end.synchronize()
        self._done.append(Timing(stage, size, number, begin.elapsed_time(end) / 1000))
