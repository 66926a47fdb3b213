"""Durations: how long jobs will take, learned from those that ran. Two figures: the seconds a piece of work
takes alone (engines say so at each admission), and how many such seconds all devices get through in one.

Knows work and seconds; nothing of jobs, rows or engines.
"""

from __future__ import annotations

import statistics
from collections import deque

RATE = 0.1  # weight of the newest job in a mean
ERRORS = 500  # newest jobs whose forecast is compared with what came


class Durations:
    """Times are seconds; work is megapixel steps."""

    def __init__(self) -> None:
        self._seconds_per_work: float | None = None
        self._retired = self._busy = 0.0  # solo seconds done, seconds they took: decaying sums
        self._stretch = 1.0  # a job's time from start to end over its solo time
        self._since: float | None = None  # end of the last job while there was work
        self._errors: deque[tuple[float, float]] = deque(maxlen=ERRORS)  # (forecast, came)

    # ---- learning ----

    def admitted(self, work: float, solo_seconds: float) -> None:
        if work > 0 and solo_seconds > 0:
            rate = solo_seconds / work
            known = self._seconds_per_work
            self._seconds_per_work = rate if known is None else known + RATE * (rate - known)

    def busy(self, now: float) -> None:
        """Something runs from now on. `now`: monotonic."""
        if self._since is None:
            self._since = now

    def idle(self) -> None:
        """Nothing runs any more, and the last job taught nothing."""
        self._since = None

    def ended(self, work: float, ran: float, now: float, *, idle: bool) -> None:
        """A job that ran for `ran` seconds ended; `idle`: it was the last one."""
        solo = self.solo(work)
        if self._seconds_per_work is None and work > 0:
            # An engine that does not say: what it took, company and all.
            self._seconds_per_work = ran / work
        if solo:
            self._stretch += RATE * (ran / solo - self._stretch)
            if self._since is not None:
                self._retired = (1 - RATE) * self._retired + solo
                self._busy = (1 - RATE) * self._busy + max(1e-6, now - self._since)
        self._since = None if idle else now

    def promised(self, seconds: float, came: float) -> None:
        """What was said of a job when it was ordered, and what it was."""
        self._errors.append((seconds, came))

    # ---- telling ----

    def solo(self, work: float) -> float | None:
        """None: nothing has run yet."""
        return None if self._seconds_per_work is None else work * self._seconds_per_work

    @property
    def pace(self) -> float:
        """Solo seconds done per second, all devices together."""
        return self._retired / self._busy if self._busy else 1.0

    def until_done(self, work: float, ahead: float) -> float | None:
        """Seconds until a job is done that has this much work before it."""
        own = self.solo(work)
        if own is None or self._seconds_per_work is None:
            return None
        line = (ahead * self._seconds_per_work + own) / self.pace
        return max(line, own * self._stretch)

    def errors(self) -> dict[str, float]:
        """Of the newest forecasts: median and 95th percentile of |forecast - came| / came."""
        apart = sorted(abs(said - came) / max(came, 0.1) for said, came in self._errors)
        if len(apart) < 2:
            return {"count": len(apart)}
        p95 = statistics.quantiles(apart, n=20, method="inclusive")[18]
        return {"count": len(apart), "median": statistics.median(apart), "p95": p95}
