"""Fences: which epochs, and which attempts of which jobs, nobody owns any more.

Knows numbers only. The registry says what is dropped; this remembers it for requests still to come.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

REMEMBERED = 10_000  # jobs; the oldest drop is forgotten first


class Fences:
    def __init__(self) -> None:
        self.epoch = 0
        self._drops: OrderedDict[str, int] = OrderedDict()  # job id -> newest attempt dropped

    def see(self, epoch: int) -> None:
        """A newer epoch ends every older one."""
        self.epoch = max(self.epoch, epoch)

    def drop(self, fences: Mapping[str, int]) -> None:
        for job_id, fence in fences.items():
            self._drops[job_id] = max(fence, self._drops.get(job_id, 0))
            self._drops.move_to_end(job_id)
        while len(self._drops) > REMEMBERED:
            self._drops.popitem(last=False)

    def dropped(self, job_id: str, epoch: int, fence: int) -> bool:
        return epoch < self.epoch or fence <= self._drops.get(job_id, -1)
