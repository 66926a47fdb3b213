"""Ledger: the registry's memory: every live job, the newest finished ones, and what changed when.

Knows nothing of rows, attempts or files. It is a bounded cache: what is not here is in the store.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from collections import OrderedDict

from serve_app.jobs.job import Job

CHANGES_PER_REPLY = 500
"""Jobs in one answer to a watcher; the rest follows in the next ones."""


class Ledger:
    """Changes are numbered from 1 within one life of the registry; a watcher's cursor is such a number."""

    def __init__(self, cached_jobs: int) -> None:
        self.cached_jobs = cached_jobs
        self.live: dict[str, Job] = {}
        self.finished: OrderedDict[str, Job] = OrderedDict()
        self.seq = 0
        self._forgotten_seq = 0  # changes up to here may have left the cache
        self._changes: list[tuple[int, str]] = []  # (seq, job id), stale entries included
        self._changed = asyncio.Event()

    def get(self, job_id: str) -> Job | None:
        return self.live.get(job_id) or self.finished.get(job_id)

    def hold(self, job: Job) -> Job:
        """Take `job` as the newest truth, number the change, and wake who watches."""
        self.seq += 1
        job = job.evolve(seq=self.seq)
        if job.status.terminal:
            self.live.pop(job.job_id, None)
            self.finished[job.job_id] = job
            while len(self.finished) > self.cached_jobs:
                _, forgotten = self.finished.popitem(last=False)
                self._forgotten_seq = max(self._forgotten_seq, forgotten.seq)
        else:
            self.live[job.job_id] = job
        self._changes.append((job.seq, job.job_id))
        if len(self._changes) > 64 + 2 * (len(self.live) + len(self.finished)):
            self._changes = [entry for entry in self._changes if self._current(entry)]
        self.notify()
        return job

    def lost_track(self, seq: int) -> bool:
        """A watcher at this cursor may have missed a job's end: it must start over."""
        return seq < self._forgotten_seq

    def after(self, seq: int) -> tuple[list[Job], int]:
        """Jobs changed after `seq`, oldest change first, and the cursor that follows them."""
        start = bisect.bisect_right(self._changes, seq, key=lambda entry: entry[0])
        jobs: list[Job] = []
        for entry in self._changes[start:]:
            if (job := self._current(entry)) is not None:
                jobs.append(job)
                if len(jobs) == CHANGES_PER_REPLY:
                    return jobs, job.seq
        return jobs, self.seq

    async def change(self, timeout_s: float | None = None) -> None:
        """Return at the next change, or at the timeout."""
        with contextlib.suppress(TimeoutError):
            # Not `wait_for`: before Python 3.12 it can swallow a cancellation.
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._changes)

    def _current(self, entry: tuple[int, str]) -> Job | None:
        """The job whose newest change `entry` is."""
        job = self.get(entry[1])
        return job if job is not None and job.seq == entry[0] else None
