"""Clock: the registry's time, which never goes back, and the numbers of jobs, which grow with it.

Knows nothing of jobs.
"""

from __future__ import annotations

import time


class Clock:
    """If the host's clock is put back, new jobs still come after old ones, and no job ends before it
    began."""

    def __init__(self, last: int = 0) -> None:
        self._base = time.time() - _since_boot()
        self._last = 0
        self.after(last)

    def after(self, last: int) -> None:
        """Continue after `last`, the highest number that was given before this start."""
        self._base = max(self._base, last / 1e6 - _since_boot())
        self._last = last

    def now(self) -> float:
        """Unix seconds."""
        return self._base + _since_boot()

    def number(self) -> int:
        """The next number: microseconds since 1970, or one more than the number before."""
        self._last = max(self._last + 1, round(self.now() * 1e6))
        return self._last


def _since_boot() -> float:
    """Seconds. `monotonic` stands still while a laptop sleeps; Linux has a clock that does not."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
