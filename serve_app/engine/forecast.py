"""Forecast: seconds until requests are done, given what else is in the engine. Gain: how much sharing saves.

Knows costs, deadlines and counts; no clock, no drawings. It ignores requests that may still arrive with an
earlier deadline, waiting for wide calls, quarantine, and work in other threads (text encoding, PNG files).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Protocol

from serve_app.engine.costs import CostTable
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Batch

GAIN_RATE = 0.02  # weight of the newest call; the average then spans about fifty calls


class Gain:
    """Unshared seconds of work done per second of the device: 1 without sharing, 2 if it halves the time."""

    def __init__(self) -> None:
        self._unshared = self._spent = 0.0

    @property
    def value(self) -> float:
        return self._unshared / self._spent if self._unshared else 1.0

    def observe(self, unshared: float, seconds: float) -> None:
        """One call took `seconds`; its requests one after another would have taken `unshared`.

        Numerator and denominator are averaged apart, so a long call weighs more than a short one.
        """
        if not self._unshared:
            self._unshared = self._spent = unshared  # start at a gain of 1
        self._unshared += GAIN_RATE * (unshared - self._unshared)
        self._spent += GAIN_RATE * (seconds - self._spent)


def unshared_seconds(batch: Batch, costs: CostTable) -> float:
    """Predicted seconds if each request of the call had a call of its own. Ask before `Scheduler.update`."""
    if batch.stage is Stage.DECODING:
        return sum(costs.decode_seconds(r.size) for r in batch.requests)
    return sum(costs.seconds(r.size, r.rows) for r in batch.requests)


class Costs(Protocol):
    """A cost table, or a scheduler that has one for each of its models."""

    def solo_seconds(self, request: Request) -> float: ...


class Forecast:
    """A snapshot of all `requests` in the engine. It sorts them, so ask one snapshot for many drawings."""

    def __init__(self, requests: Iterable[Request], costs: Costs, gain: float) -> None:
        self._left = {r: costs.solo_seconds(r) for r in requests if r.stage is not Stage.ENCODING}
        self._gain = gain
        line = sorted(self._left, key=lambda r: r.deadline)
        self._deadlines = [r.deadline for r in line]
        self._until = [0.0, *accumulate(self._left[r] for r in line)]

    def seconds(self, requests: Sequence[Request], share: float = 1.0) -> float:
        """Seconds until the last of a drawing's `requests` is decoded.

        That is all work that is due up to its latest deadline, divided by the gain, and at least what the
        drawing needs alone: the sum of its requests' solo times x `share`, which is below 1 because its
        own requests share calls.
        """
        left = [r for r in requests if r in self._left]
        if not left:
            return 0.0
        last = max(r.deadline for r in left)
        line = self._until[bisect_right(self._deadlines, last)]
        return max(line / self._gain, share * sum(self._left[r] for r in left))
