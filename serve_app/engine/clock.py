"""CallClock: how long model calls took, without ever waiting for the newest one.

Knows torch devices and sizes; nothing of requests. On a GPU calls are only queued, so their times
are read from events once they have passed, and the host runs at most `AHEAD` calls in front.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from serve_app.engine.costs import Size

AHEAD = 2  # further ahead, a drop or a deadline would be late by that many calls


class CallClock:
    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._running: deque[tuple[Size, int, Any, Any]] = deque()
        self._done: list[tuple[Size, int, float]] = []

    @contextmanager
    def measure(self, size: Size, rows: int) -> Generator[None]:
        if not self._cuda:
            began = time.perf_counter()
            yield
            self._done.append((size, rows, time.perf_counter() - began))
            return
        while len(self._running) >= AHEAD:
            self._read_oldest()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._running.append((size, rows, begin, end))

    def take(self) -> list[tuple[Size, int, float]]:
        """(size, rows, seconds) of the calls that have ended since the last time."""
        done, self._done = self._done, []
        return done

    def catch_up(self) -> None:
        """Wait for every call that is still running."""
        while self._running:
            self._read_oldest()

    def _read_oldest(self) -> None:
        size, rows, begin, end = self._running.popleft()
        end.synchronize()
        self._done.append((size, rows, begin.elapsed_time(end) / 1000))
