"""Forecast: how long until requests are done, in their present company. Gain: what sharing is worth.

Knows costs, deadlines and counts; no clock, no drawings. Left out: who may yet arrive with an earlier
deadline, the wait for wide calls, quarantine, and what is done beside the loop (texts, PNG files).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from serve_app.engine.costs import CostTable
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Batch

GAIN_RATE = 0.02  # per call; a line of requests is some hundred calls long


class Gain:
    """Solo seconds retired per second of the device: about 1 while calls are not shared."""

    def __init__(self) -> None:
        self._retired = self._spent = 0.0

    @property
    def value(self) -> float:
        return self._retired / self._spent if self._retired else 1.0

    def observe(self, retired: float, seconds: float) -> None:
        """One call. Sums of both, so long calls count for more and a GPU may answer late."""
        if not self._retired:
            self._retired = self._spent = retired  # as if earlier calls had gained nothing
        self._retired += GAIN_RATE * (retired - self._retired)
        self._spent += GAIN_RATE * (seconds - self._spent)


def unshared_seconds(batch: Batch, costs: CostTable) -> float:
    """What the call would have taken its requests one after another; ask before they move on."""
    if batch.stage is Stage.DECODING:
        return sum(costs.decode_seconds(r.size) for r in batch.requests)
    return sum(costs.seconds(r.size, r.rows) for r in batch.requests)


class Forecast:
    """Of all `requests` in the engine at one moment: sorted once, asked for many drawings."""

    def __init__(self, requests: Iterable[Request], costs: CostTable, gain: float) -> None:
        self._left = {r: costs.solo_seconds(r) for r in requests if r.stage is not Stage.ENCODING}
        self._gain = gain
        line = sorted(self._left, key=lambda r: r.deadline)
        self._deadlines = [r.deadline for r in line]
        self._until = [0.0, *accumulate(self._left[r] for r in line)]

    def seconds(self, requests: Sequence[Request], share: float = 1.0) -> float:
        """Until the last of a drawing's requests is decoded.

        That is the work due before or with it, at the device's measured rate, but never less than
        the drawing takes alone: `share` of its requests' solo times, for they share calls too.
        """
        left = [r for r in requests if r in self._left]
        if not left:
            return 0.0
        last = max(r.deadline for r in left)
        line = self._until[bisect_right(self._deadlines, last)]
        return max(line / self._gain, share * sum(self._left[r] for r in left))
