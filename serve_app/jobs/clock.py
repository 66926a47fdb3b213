"""Clock: the registry's time, which never goes back, and the numbers of jobs, which grow with it."""

from __future__ import annotations

import time


class Clock:
    """Wall-clock time that never goes back, and numbers for jobs that grow with it. A host whose clock
    is put back must not let new jobs overtake old ones, nor end a job before it began."""

    def __init__(self, last: int = 0) -> None:
        self._base = time.time() - _since_boot()
        self._last = 0
        self.after(last)

    def after(self, last: int) -> None:
        """Go on from there. `last`: the highest number an earlier life gave."""
        self._base = max(self._base, last / 1e6 - _since_boot())
        self._last = last

    def now(self) -> float:
        """Unix seconds."""
        return self._base + _since_boot()

    def number(self) -> int:
        """Microseconds, different each time."""
        self._last = max(self._last + 1, round(self.now() * 1e6))
        return self._last


def _since_boot() -> float:
    """Seconds. Linux has a clock that also counts while a laptop sleeps; `monotonic` does not."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
