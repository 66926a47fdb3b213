"""CallTimer: how long model calls took, measured without waiting for the newest one.

Knows torch devices and sizes; nothing of requests. On a GPU a call is only queued, so its time is read from
two events after both have passed. The host may queue at most `AHEAD` calls before the oldest has ended.
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

AHEAD = 2  # a drop takes effect after the calls that are queued already


class Timing(NamedTuple):
    """One call that has ended; `number`: its UNet rows, or the images it decoded."""

    model: str
    stage: Stage
    size: Size
    number: int
    seconds: float


class CallTimer:
    """Measures the calls of one thread. `model`: whose calls they are."""

    def __init__(self, device: torch.device, model: str = "") -> None:
        self._model = model
        self._cuda = device.type == "cuda"
        self._running: deque[tuple[Stage, Size, int, Any, Any]] = deque()
        self._done: list[Timing] = []

    @contextmanager
    def measure(self, stage: Stage, size: Size, number: int) -> Generator[None]:
        """The body makes one call. On a GPU this first waits until fewer than `AHEAD` calls are running."""
        if not self._cuda:
            began = time.perf_counter()
            yield
            seconds = time.perf_counter() - began
            self._done.append(Timing(self._model, stage, size, number, seconds))
            return
        while len(self._running) >= AHEAD:
            self._read_oldest()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._running.append((stage, size, number, begin, end))

    def mark(self) -> Callable[[], None]:
        """A function that waits, in any thread, until all that is queued now has run."""
        if not self._cuda:
            return lambda: None
        event = torch.cuda.Event()
        event.record()
        return event.synchronize

    def take(self) -> list[Timing]:
        """The calls that have ended since this was last asked."""
        done, self._done = self._done, []
        return done

    def _read_oldest(self) -> None:
        stage, size, number, begin, end = self._running.popleft()
        end.synchronize()
        seconds = begin.elapsed_time(end) / 1000
        self._done.append(Timing(self._model, stage, size, number, seconds))
