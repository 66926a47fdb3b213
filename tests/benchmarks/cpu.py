"""Cpu: seconds of processor time by what processes do, those included that come and go meanwhile.

Knows /proc through psutil; what a process does is told by whoever asks.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Generator

import psutil

SAMPLE_S = 0.5
Processes = dict[str, list[psutil.Process]]
"""By what they do."""


class Cpu:
    """What was used within `measuring`. A process that ends is counted up to its last sample."""

    def __init__(self, processes: Callable[[], Processes]) -> None:
        self._processes = processes
        self._kinds: dict[int, str] = {}
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._there: set[int] = set()  # when it began

    @contextlib.contextmanager
    def measuring(self) -> Generator[None]:
        over = threading.Event()
        self._sample(new_from=None)
        self._there = set(self._first)
        thread = threading.Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._sample()

    def seconds(self) -> dict[str, float]:
        """By what the processes do."""
        used: defaultdict[str, float] = defaultdict(float)
        for pid, kind in self._kinds.items():
            used[kind] += self._last[pid] - self._first[pid]
        return dict(used)

    def started(self) -> dict[str, int]:
        """Processes that were not there when it began."""
        return dict(Counter(kind for pid, kind in self._kinds.items() if pid not in self._there))

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(SAMPLE_S):
            self._sample()

    def _sample(self, new_from: float | None = 0.0) -> None:
        """A process that is seen for the first time began at `new_from` seconds; None: at what it has now."""
        for kind, processes in self._processes().items():
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    now = sum(process.cpu_times()[:2])
                    if process.pid not in self._first:
                        self._first[process.pid] = now if new_from is None else new_from
                    self._kinds[process.pid] = kind  # a process may say later what it does
                    self._last[process.pid] = now
