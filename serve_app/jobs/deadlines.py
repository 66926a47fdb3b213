"""Deadlines: a call for each job whose time is over.

Knows ids and seconds, on the event loop's clock: one that is put back delays nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadlines:
    def __init__(self, passed: Callable[[str], None]) -> None:
        self._passed = passed
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def set(self, job_id: str, seconds: float) -> None:
        self.forget(job_id)
        loop = asyncio.get_running_loop()
        self._timers[job_id] = loop.call_later(max(0.0, seconds), self._ring, job_id)

    def forget(self, job_id: str) -> None:
        if (timer := self._timers.pop(job_id, None)) is not None:
            timer.cancel()

    def close(self) -> None:
        for job_id in list(self._timers):
            self.forget(job_id)

    def __len__(self) -> int:
        return len(self._timers)

    def _ring(self, job_id: str) -> None:
        self._timers.pop(job_id, None)
        self._passed(job_id)
