"""Deadlines: one timer for each live job that has a deadline.

Knows ids and seconds. Timers run on the event loop's clock, so a wall clock that is put back delays nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadlines:
    """`passed(job_id)` is called once, when the job's deadline has passed."""

    def __init__(self, passed: Callable[[str], None]) -> None:
        self._passed = passed
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def set(self, job_id: str, seconds: float) -> None:
        """The deadline is so many seconds from now. It replaces an earlier one of this job."""
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
