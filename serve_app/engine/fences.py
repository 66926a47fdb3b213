"""Fences: which epochs and which attempts the registry has dropped, so that late calls for them are refused.

Knows numbers only; nothing of drawings. A drop can arrive before the attempt it drops.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

REMEMBERED = 10_000  # jobs; beyond that the oldest drop is forgotten


class Fences:
    """`epoch` is the newest that was seen; attempts of older ones are dropped."""

    def __init__(self) -> None:
        self.epoch = 0
        self._drops: OrderedDict[str, int] = OrderedDict()  # job id -> newest attempt dropped

    def see(self, epoch: int) -> None:
        """A newer epoch ends every older one; an older one changes nothing."""
        self.epoch = max(self.epoch, epoch)

    def drop(self, fences: Mapping[str, int]) -> None:
        """Job id -> the newest of its attempts that is dropped; older ones are dropped with it."""
        for job_id, fence in fences.items():
            self._drops[job_id] = max(fence, self._drops.get(job_id, 0))
            self._drops.move_to_end(job_id)
        while len(self._drops) > REMEMBERED:
            self._drops.popitem(last=False)

    def dropped(self, job_id: str, epoch: int, fence: int) -> bool:
        return epoch < self.epoch or fence <= self._drops.get(job_id, -1)
