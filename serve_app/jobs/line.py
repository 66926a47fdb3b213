"""Line: which waiting job is next. Clients share the devices by work; within one client, priority decides.

Start-time fair queueing (Goyal, Vin, Cheng 1996): each client has a virtual clock, which advances by the work
of each of its jobs that leaves the line, and the client whose clock is furthest behind is next. Knows nothing
of rows or attempts.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from serve_app.jobs.columns import Columns
from serve_app.params import DEFAULT_POOL


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A waiting job. `place`: sorts it among its client's jobs, smaller first. `work`: megapixel steps.
    `owner`: whoever ordered it, under whatever names of clients. `pool`: whose slots it waits for. `model`:
    what draws it, which says its pool."""

    place: float
    job_id: str
    owner: str = field(compare=False)
    client: str = field(compare=False)
    work: float = field(compare=False)
    pool: str = field(default=DEFAULT_POOL, compare=False)
    model: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What leaves the line before a job: a number of jobs, and their work in megapixel steps."""

    jobs: int
    work: float


@dataclass(slots=True)
class _Client:
    name: str
    clock: float  # virtual time at which its next job starts
    jobs: list[Entry] = field(default_factory=list[Entry])  # sorted
    work: float = 0.0  # of all its jobs

    def without(self, entry: Entry) -> None:
        """`entry` has just left `jobs`. Rounding errors would otherwise stay in the sum for ever."""
        self.work = max(0.0, self.work - entry.work) if self.jobs else 0.0


class Line:
    """`weights`: client -> share; a client that is not in it has a share of 1."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights: Mapping[str, float] = weights or {}
        self._entries: dict[str, Entry] = {}
        self._clients: dict[str, _Client] = {}
        self._waiting = Columns("jobs", "work", "clock", "weight")  # of each client with jobs
        self.owners: Counter[str] = Counter()  # owner -> jobs that wait; none has 0
        self.owners_work: dict[str, float] = {}  # of these jobs, megapixel steps
        self._heap: list[tuple[float, str]] = []  # (clock, client), each once; clocks may be stale
        self._back: list[Entry] = []  # put back after a lost attempt; sorted
        self._now = 0.0  # virtual time: the clock of the client that was last served

    @property
    def weights(self) -> Mapping[str, float]:
        return self._weights

    @weights.setter
    def weights(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        for client in self._clients.values():
            self._note(client)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._entries

    def add(self, entry: Entry) -> None:
        """A client that had no job waiting starts at the present virtual time: it has saved up no credit."""
        if entry.job_id in self._entries:
            return
        self._hold(entry)
        client = self._clients.get(entry.client)
        if client is None:
            client = self._clients[entry.client] = _Client(entry.client, self._now)
            heapq.heappush(self._heap, (client.clock, client.name))
        elif not client.jobs:
            client.clock = max(client.clock, self._now)
        if not client.jobs or client.jobs[-1] < entry:  # hot: the rows of a batch come in order
            client.jobs.append(entry)
        else:
            insort(client.jobs, entry)
        client.work += entry.work
        self._note(client)

    def put_back(self, entry: Entry) -> None:
        """The attempt at this job was lost. It goes before all others, and its client is not charged
        again."""
        if entry.job_id not in self._entries:
            self._hold(entry)
            insort(self._back, entry)

    def pop(self) -> Entry | None:
        """The next job, out of the line; its client is charged for it. None: no job waits."""
        if self._back:
            entry = self._back.pop(0)
            self._let_go(entry.job_id)
            return entry
        while self._heap:
            clock, name = heapq.heappop(self._heap)
            client = self._clients[name]
            if clock < client.clock:
                heapq.heappush(self._heap, (client.clock, name))
            elif not client.jobs:
                # Its clock is the one furthest behind, so it owes nothing to others and can be forgotten.
                del self._clients[name]
            else:
                return self._take_from(client)
        return None

    def charge(self, name: str, work: float) -> None:
        """A job of this client took so much more work than its order said."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client(name, self._now)
            heapq.heappush(self._heap, (client.clock, name))
        elif not client.jobs:
            client.clock = max(client.clock, self._now)
        client.clock += work / self._weight(client)
        self._note(client)

    def remove(self, job_id: str) -> bool:
        """Take a revoked job out. Nobody is charged. False: it is not in the line."""
        return self.take(job_id) is not None

    def take(self, job_id: str) -> Entry | None:
        """`remove`, of a job that goes to another line. None: it is not in this one."""
        entry = self._let_go(job_id)
        if entry is None:
            return None
        at = bisect_left(self._back, entry)
        if at < len(self._back) and self._back[at] == entry:
            del self._back[at]
            return entry
        client = self._clients[entry.client]
        del client.jobs[bisect_left(client.jobs, entry)]
        client.without(entry)
        self._note(client)
        return entry

    def entries(self) -> list[Entry]:
        """The waiting jobs, in any order."""
        return list(self._entries.values())

    def move(self, job_id: str, place: float) -> None:
        """Give a job that waits here another place. One that was put back stays before all others."""
        entry = self._entries[job_id]
        at = bisect_left(self._back, entry)
        back = at < len(self._back) and self._back[at] == entry
        self.remove(job_id)
        moved = replace(entry, place=place)
        if back:
            self.put_back(moved)
        else:
            self.add(moved)

    def ahead_of(self, job_id: str) -> Ahead | None:
        """What leaves before this job, if no other job comes. The jobs of one client count as equally long.
        None: it is not in the line."""
        entry = self._entries.get(job_id)
        if entry is None:
            return None
        at = bisect_left(self._back, entry)
        if at < len(self._back) and self._back[at] == entry:
            return Ahead(at, sum(other.work for other in self._back[:at]))
        own = self._clients[entry.client]
        rank = bisect_left(own.jobs, entry)
        return self._ahead(own, rank, own.clock)

    def ahead_of_new(self, client: str) -> Ahead:
        """What would leave before a job of normal priority that `client` submits now."""
        own = self._clients.get(client)
        if own is None or not own.jobs:
            clock = max(self._now, own.clock if own else 0.0)
            return self._ahead(_Client(client, clock), 0, clock)
        return self._ahead(own, len(own.jobs), own.clock)

    def mean_work(self) -> float | None:
        """Mean work of the waiting jobs. None: no job waits."""
        if not self._entries:
            return None
        return float(self._waiting["work"].sum()) / len(self._entries)

    def _ahead(self, own: _Client, rank: int, clock: float) -> Ahead:
        """`rank`: jobs of its own client before it. `clock`: virtual time at which the first of them
        starts."""
        before = own.work * rank / len(own.jobs) if rank else 0.0
        starts = clock + before / self._weight(own)  # virtual time at which the job's turn comes
        others, work = self._before(starts, own.name)
        put_back = sum(entry.work for entry in self._back)
        return Ahead(rank + len(self._back) + others, before + put_back + work)

    def _before(self, starts: float, own: str) -> tuple[int, float]:
        """Jobs of other clients whose turn comes before virtual time `starts`, and their work. Of jobs that
        are due at that very time, those of clients whose names come first."""
        # hot: runs for every job that is submitted, so it must not walk over thousands of clients
        if len(self._waiting) == (self._waiting.row(own) is not None):  # nobody else waits
            return 0, 0.0
        waiting = self._waiting["jobs"]
        mean = self._waiting["work"] / waiting
        late = (starts - self._waiting["clock"]) * self._waiting["weight"]
        # Jobs without any work are all due as soon as their client's turn comes.
        due = np.where(late < 0, -np.inf, np.inf)
        np.divide(late, mean, out=due, where=mean > 0)
        whole = np.floor(due)
        jobs = np.where(due < waiting, np.maximum(0.0, whole + (due > whole)), waiting)
        ties = np.flatnonzero((due == whole) & (due >= 0) & (due < waiting))
        jobs[ties] += self._waiting.keys_of(ties) < own
        if (row := self._waiting.row(own)) is not None:
            jobs[row] = 0
        return int(jobs.sum()), float(jobs @ mean)

    def _note(self, client: _Client) -> None:
        """The client's jobs, clock or weight have changed."""
        if client.jobs:
            self._waiting.put(
                client.name, len(client.jobs), client.work, client.clock, self._weight(client)
            )
        else:
            self._waiting.drop(client.name)

    def _hold(self, entry: Entry) -> None:
        self._entries[entry.job_id] = entry
        self.owners[entry.owner] += 1
        self.owners_work[entry.owner] = self.owners_work.get(entry.owner, 0.0) + entry.work

    def _let_go(self, job_id: str) -> Entry | None:
        entry = self._entries.pop(job_id, None)
        if entry is not None:
            self.owners[entry.owner] -= 1
            self.owners_work[entry.owner] -= entry.work
            if not self.owners[entry.owner]:
                del self.owners[entry.owner], self.owners_work[entry.owner]
        return entry

    def _take_from(self, client: _Client) -> Entry:
        self._now = client.clock
        entry = client.jobs.pop(0)
        client.without(entry)
        client.clock += entry.work / self._weight(client)
        self._note(client)
        self._let_go(entry.job_id)
        heapq.heappush(self._heap, (client.clock, client.name))
        return entry

    def _weight(self, client: _Client) -> float:
        return self.weights.get(client.name, 1.0)
