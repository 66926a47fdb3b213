"""JobCache: the jobs in the registry's memory, and the log of changes that watchers read.

Holds every job that runs, and those of the others that changed last. Knows nothing of rows, attempts or
files; a job that is not here is in the store.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
from collections import OrderedDict, defaultdict, deque

from serve_app.jobs.job import Job
from serve_app.jobs.load import Load
from serve_app.messages import BatchView

ANNOUNCED = 100
"""Newest batches that watchers are told of. They ask twenty times a second."""
CHANGES_PER_REPLY = 500
"""Jobs in one reply to a watcher. The next reply goes on from there."""


class JobCache:
    """Each change of a job has a number, its revision: 1, 2, ... since the registry started. A watcher's
    cursor is the revision up to which it has heard everything."""

    def __init__(self, cached_jobs: int) -> None:
        self.cached_jobs = cached_jobs
        self.running: dict[str, Job] = {}  # jobs with an attempt in flight
        self.loads: defaultdict[str, Load] = defaultdict(Load)  # of the same jobs, by pool
        self._others: OrderedDict[str, Job] = OrderedDict()  # waiting or final, newest change last
        self.seq = 0  # newest revision
        self.forgotten_seq = 0  # newest revision that has left the cache
        self._gone: OrderedDict[str, int] = OrderedDict()  # id of a deleted job -> revision
        self._announced: deque[tuple[int, BatchView]] = deque(maxlen=ANNOUNCED)
        # (revision, job id), oldest first; also of jobs that have changed again since
        self._changes: list[tuple[int, str]] = []
        self._changed = asyncio.Event()
        # owner -> id of each of its jobs here -> revision, newest last
        self._of_owner: dict[str, OrderedDict[str, int]] = {}

    def get(self, job_id: str) -> Job | None:
        return self.running.get(job_id) or self._others.get(job_id)

    def hold(self, job: Job, *, running: bool) -> Job:
        """Hold `job` as its newest state, give it a revision, and wake the watchers."""
        self.seq += 1
        job = job.evolve(seq=self.seq)
        self._place(job, running=running)
        self._changes.append((job.seq, job.job_id))
        of_owner = self._of_owner.setdefault(job.owner, OrderedDict())
        of_owner[job.job_id] = job.seq
        of_owner.move_to_end(job.job_id)
        if len(self._changes) > 64 + 2 * (len(self.running) + len(self._others)):
            self._changes = [entry for entry in self._changes if self._current(entry)]
        self.notify()
        return job

    def no_longer_runs(self, job_id: str) -> None:
        """Its attempt is over. That is no change of the job."""
        if job := self.running.get(job_id):
            self._place(job, running=False)

    def forget(self, job_id: str) -> None:
        """The job is deleted. Watchers hear of it, too."""
        running, other = self.running.pop(job_id, None), self._others.pop(job_id, None)
        if (job := running or other) is not None:
            self.loads[job.pool].drop(job_id)
            self._drop_change(job)
        self.seq += 1
        self._gone.pop(job_id, None)  # two clients may delete a job at once; keep `_gone` sorted
        self._gone[job_id] = self.seq
        while len(self._gone) > self.cached_jobs:
            _, seq = self._gone.popitem(last=False)
            self.forgotten_seq = max(self.forgotten_seq, seq)
        self.notify()

    def newest(self, stored: Job) -> Job:
        """The cached job, or else `stored`, which was read from its row. That one gets the newest evicted
        revision, so that a client never sees a job's revision go back."""
        return self.get(stored.job_id) or stored.evolve(seq=self.forgotten_seq)

    def final(self) -> list[Job]:
        """The cached jobs that have ended."""
        return [job for job in self._others.values() if job.status.terminal]

    def lost_track(self, seq: int) -> bool:
        """A watcher at this cursor may have missed changes, since they have left the cache."""
        return seq < self.forgotten_seq

    def gone_after(self, seq: int) -> list[str]:
        """Ids of jobs deleted after this revision."""
        return list(
            itertools.takewhile(lambda job_id: self._gone[job_id] > seq, reversed(self._gone))
        )

    def after(self, seq: int, owner: str | None = None) -> tuple[list[Job], int]:
        """Jobs changed after this revision, oldest change first, and the cursor to go on from. With `owner`:
        of its jobs only, and no other is looked at."""
        if owner is not None:
            return self._after_of(owner, seq)
        start = bisect.bisect_right(self._changes, seq, key=lambda entry: entry[0])
        jobs: list[Job] = []
        for entry in self._changes[start:]:
            if (job := self._current(entry)) is not None:
                jobs.append(job)
                if len(jobs) == CHANGES_PER_REPLY:
                    return jobs, job.seq
        return jobs, self.seq

    def _after_of(self, owner: str, seq: int) -> tuple[list[Job], int]:
        of_owner = self._of_owner.get(owner, OrderedDict())
        newer = list(itertools.takewhile(lambda job_id: of_owner[job_id] > seq, reversed(of_owner)))
        jobs = [job for job_id in newer[: -CHANGES_PER_REPLY - 1 : -1] if (job := self.get(job_id))]
        return jobs, jobs[-1].seq if len(jobs) < len(newer) else self.seq

    def announce(self, batch: BatchView) -> None:
        """Many jobs were ordered or ended together. Watchers are told of the batch, not of each job that
        waits now."""
        self.seq += 1
        self._announced.append((self.seq, batch))
        self.notify()

    def announced(self, after: int, upto: int) -> list[BatchView]:
        """Batches announced after the one revision, and not after the other."""
        return [batch for seq, batch in self._announced if after < seq <= upto]

    async def change(self, timeout_s: float | None = None) -> None:
        """Return at the next change, or after the timeout."""
        with contextlib.suppress(TimeoutError):
            # Not `wait_for`: before Python 3.12 it can swallow a cancellation.
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def notify(self) -> None:
        """Wake everybody who waits in `change`."""
        self._changed.set()
        self._changed = asyncio.Event()

    def sizes(self) -> dict[str, int]:
        return {
            "cached": len(self._others),
            "changes": len(self._changes),
            "owners": len(self._of_owner),
        }

    def _place(self, job: Job, *, running: bool) -> None:
        self._others.pop(job.job_id, None)
        if running:
            self.running[job.job_id] = job
            self.loads[job.pool].put(job)
            return
        if self.running.pop(job.job_id, None) is not None:
            self.loads[job.pool].drop(job.job_id)
        self._others[job.job_id] = job
        while len(self._others) > self.cached_jobs:
            _, forgotten = self._others.popitem(last=False)
            self._drop_change(forgotten)
            self.forgotten_seq = max(self.forgotten_seq, forgotten.seq)

    def _drop_change(self, job: Job) -> None:
        of_owner = self._of_owner[job.owner]
        del of_owner[job.job_id]
        if not of_owner:
            del self._of_owner[job.owner]

    def _current(self, entry: tuple[int, str]) -> Job | None:
        """The job, unless it changed again after this entry of `_changes`."""
        job = self.get(entry[1])
        return job if job is not None and job.seq == entry[0] else None
