"""Lines: one line for each pool of slots, since a full pool must not hold back the jobs of another.

Knows which pools need renderers; nothing of rows, attempts, or how many slots a pool has.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

from serve_app.jobs.line import Entry, Line
from serve_app.params import CPU_POOL


def needs_renderer(pool: str) -> bool:
    return pool != CPU_POOL


class Lines:
    """`weights`: client -> share, the same in every line; a client that is not in it has a share of 1."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._weights: Mapping[str, float] = {}
        self._pools: dict[str, str] = {}  # job id -> pool of the line it stands in

    def __len__(self) -> int:
        return len(self._pools)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._pools

    def of(self, pool: str) -> Line:
        """The line of this pool; an empty one if nobody has stood there yet."""
        if pool not in self._lines:
            self._lines[pool] = Line(self._weights)
        return self._lines[pool]

    @property
    def weights(self) -> Mapping[str, float]:
        return self._weights

    @weights.setter
    def weights(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        for line in self._lines.values():
            line.weights = weights

    @property
    def owners(self) -> Counter[str]:
        """Owner -> jobs that wait, in all lines; none has 0."""
        return sum((line.owners for line in self._lines.values()), Counter[str]())

    def work_of(self, owner: str) -> defaultdict[str, float]:
        """Megapixel steps of the owner's jobs that wait, by pool."""
        found = {pool: line.owners_work.get(owner, 0.0) for pool, line in self._lines.items()}
        return defaultdict(float, found)

    def add(self, entry: Entry) -> None:
        self.of(entry.pool).add(entry)
        self._pools[entry.job_id] = entry.pool

    def put_back(self, entry: Entry) -> None:
        self.of(entry.pool).put_back(entry)
        self._pools[entry.job_id] = entry.pool

    def pop(self, may_launch: Callable[[str], bool]) -> Entry | None:
        """The next job of a pool for which `may_launch(pool)` is true. None: there is none."""
        for pool, line in self._lines.items():
            if len(line) and may_launch(pool) and (entry := line.pop()) is not None:
                del self._pools[entry.job_id]
                return entry
        return None

    def waiting(self) -> dict[str, Line]:
        """The lines in which jobs wait, by pool."""
        return {pool: line for pool, line in self._lines.items() if len(line)}

    def pool_of(self, job_id: str) -> str | None:
        """The pool that this job waits for. None: it is in no line."""
        return self._pools.get(job_id)

    def rehome(self, home: Callable[[str, str], str]) -> None:
        """Every job goes to the line of `home(pool, model)`, its pool by now."""
        for entry in [entry for line in self._lines.values() for entry in line.entries()]:
            if (pool := home(entry.pool, entry.model)) != entry.pool:
                self._lines[entry.pool].take(entry.job_id)
                self.add(replace(entry, pool=pool))

    def move(self, job_id: str, place: float) -> None:
        """Give a job another place among its client's. Does nothing if it is in no line any more."""
        if (pool := self._pools.get(job_id)) is not None:
            self._lines[pool].move(job_id, place)

    def remove(self, job_id: str) -> bool:
        """Take a revoked job out. False: it is in no line."""
        pool = self._pools.pop(job_id, None)
        return pool is not None and self._lines[pool].remove(job_id)
