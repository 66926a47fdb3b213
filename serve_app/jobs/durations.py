"""Durations: how long jobs take, learned from those that ran.

It learns two figures. Seconds per unit of work, when a job has a device to itself (its solo time); engines
predict it at each admission. And the pace: how many such solo seconds all devices together do in one second.
Knows work and seconds; nothing of jobs, rows or engines.
"""

from __future__ import annotations

import statistics
from collections import deque

RATE = 0.1  # weight of the newest job in a mean
ERRORS = 500  # jobs whose first estimate is compared with the time they took


class Durations:
    """Times are in seconds, work in megapixel steps."""

    def __init__(self) -> None:
        self._seconds_per_work: float | None = None
        self._done = self._busy = 0.0  # solo seconds done, and the seconds that took: decaying sums
        self._stretch = 1.0  # mean of a job's time from start to end over its solo time
        self._since: float | None = None  # monotonic; the last end of a job, if others ran then
        self._errors: deque[tuple[float, float]] = deque(maxlen=ERRORS)  # (estimated, taken)

    # ---- learning ----

    def admitted(self, work: float, solo_seconds: float) -> None:
        """An engine predicted this solo time for a job of this much work."""
        if work > 0 and solo_seconds > 0:
            rate = solo_seconds / work
            known = self._seconds_per_work
            self._seconds_per_work = rate if known is None else known + RATE * (rate - known)

    def busy(self, now: float) -> None:
        """A job runs from now on, or from before. `now`: monotonic."""
        if self._since is None:
            self._since = now

    def idle(self) -> None:
        """No job runs any more, and nothing is learned from the last one."""
        self._since = None

    def ended(self, work: float, ran: float, now: float, *, idle: bool) -> None:
        """A job succeeded after `ran` seconds. `idle`: no other one runs. `now`: monotonic."""
        solo = self.solo(work)
        if self._seconds_per_work is None and work > 0:
            # This engine predicts nothing. The job's time is the best guess, although it may have had
            # company.
            self._seconds_per_work = ran / work
        if solo:
            self._stretch += RATE * (ran / solo - self._stretch)
            if self._since is not None:
                self._done = (1 - RATE) * self._done + solo
                self._busy = (1 - RATE) * self._busy + max(1e-6, now - self._since)
        self._since = None if idle else now

    def compare(self, estimated: float, taken: float) -> None:
        """A job took `taken` seconds from submit to its end; at submit, `estimated` were expected."""
        self._errors.append((estimated, taken))

    # ---- estimating ----

    def solo(self, work: float) -> float | None:
        """Seconds that this much work takes alone on a device. None: nothing has run yet."""
        return None if self._seconds_per_work is None else work * self._seconds_per_work

    @property
    def pace(self) -> float:
        """Solo seconds done per second, by all devices together."""
        return self._done / self._busy if self._busy else 1.0

    def until_done(self, work: float, ahead: float) -> float | None:
        """Seconds until a job of this much work is done, if `ahead` is the work done before it."""
        own = self.solo(work)
        if own is None or self._seconds_per_work is None:
            return None
        line = (ahead * self._seconds_per_work + own) / self.pace
        return max(line, own * self._stretch)

    def errors(self) -> dict[str, float]:
        """Median and 95th percentile of |estimated - taken| / taken over the newest jobs."""
        errors = sorted(abs(said - taken) / max(taken, 0.1) for said, taken in self._errors)
        if len(errors) < 2:
            return {"count": len(errors)}
        p95 = statistics.quantiles(errors, n=20, method="inclusive")[18]
        return {"count": len(errors), "median": statistics.median(errors), "p95": p95}
