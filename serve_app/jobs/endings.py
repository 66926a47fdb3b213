"""Endings: how a job ends. It succeeds, fails or is revoked; later it is deleted, or it expires.

Its row is committed first; then its work is stopped, and files that it does not publish are removed. Knows
nothing of who asks, nor whether they may.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from serve_app.jobs.cleaning import Cleaning
from serve_app.jobs.clock import Clock
from serve_app.jobs.deadlines import Deadlines
from serve_app.jobs.dispatcher import Dispatcher
from serve_app.jobs.estimates import Estimates
from serve_app.jobs.job import Job, Status
from serve_app.jobs.lines import needs_renderer
from serve_app.jobs.repository import JobRepository
from serve_app.messages import JobError
from serve_app.metrics import JobMetrics

log = logging.getLogger("assets.registry")

REVOKE_AGAIN_S = 5.0
"""A job that could not be revoked at its deadline, because the disk was full, is tried again after this."""
CANCELLED = JobError(
    code="cancelled",
    title="Cancelled",
    detail="Somebody who may do so cancelled this job.",
    retryable=True,
)
TOO_LATE = JobError(
    code="deadline_exceeded",
    title="Past its deadline",
    detail="The job was not done when its `Cancel-After` was over.",
    retryable=True,
)


class Endings:
    """Methods that change a job return once the change is on disk and in memory."""

    def __init__(
        self,
        jobs: JobRepository,
        dispatcher: Dispatcher,
        estimates: Estimates,
        cleaning: Cleaning,
        deadlines: Deadlines,
        metrics: JobMetrics,
        clock: Clock,
    ) -> None:
        self._jobs, self._dispatcher, self._estimates = jobs, dispatcher, estimates
        self._cleaning, self._deadlines = cleaning, deadlines
        self._metrics, self._clock = metrics, clock
        self.retention_s: float | None = None  # None: finished jobs are kept for ever

    async def end(self, job: Job) -> bool:
        """Commit the end of `job`, whose status is terminal. False: its row has moved on, and nothing is
        changed. Raises sqlite3.Error."""
        now = self._clock.now()
        started_at = job.started_at
        if job.status is not Status.REVOKED:
            started_at = started_at or now
        ended = job.evolve(
            started_at=started_at, completed_at=now, progress=None, preview=None, alone=False
        )
        if not await self._jobs.save(ended, job.fence, self._device_seconds(ended)):
            return False
        self._is_over(ended)
        if job.fence > 1 or (job.fence and job.status is not Status.SUCCESS):
            await self._cleaning.remove([ended], but=ended.images)
        return True

    async def revoke(self, job_id: str, owner: str | None, error: JobError) -> Job | None:
        """The job as it ended, now or before. None: this owner has no job of that id. `owner` None: the
        registry itself asks. Raises sqlite3.Error."""
        while True:
            job = await self._jobs.find(job_id)
            if job is None or owner not in (None, job.owner):
                return None
            if job.status.terminal:
                return job
            await self.end(job.evolve(status=Status.REVOKED, error=error, waiting_for=None))
            # If that failed, the row changed in between (an attempt began, or it ended): look again.

    def leave_line(self, job_id: str) -> bool:
        """Take a job out of line, whose row says that it is revoked. False: it does not stand there."""
        self._deadlines.forget(job_id)
        return self._dispatcher.leave_line(job_id)

    async def were_revoked(self, jobs: Sequence[Job]) -> None:
        """These jobs are revoked, and their rows say so already: stop their work."""
        for job in jobs:
            self._is_over(self._jobs.written(job))
        spent: defaultdict[str, float] = defaultdict(float)
        for job in jobs:
            spent[job.owner] += self._device_seconds(job)
        for owner, seconds in spent.items():
            if seconds:
                await self._jobs.store.spend(owner, seconds, self._clock.now())
        if begun := [job for job in jobs if job.fence]:
            await self._cleaning.remove(begun)

    async def deadline_passed(self, job_id: str) -> None:
        try:
            await self.revoke(job_id, None, TOO_LATE)
        except sqlite3.Error as error:
            log.error("not revoked, again in a moment: %s", error, extra={"job_id": job_id})
            self._deadlines.set(job_id, REVOKE_AGAIN_S)

    async def delete(self, job_id: str, owner: str) -> None:
        """Remove its row and its files; a live job is cancelled first. Raises sqlite3.Error."""
        job = await self.revoke(job_id, owner, CANCELLED)
        if job is not None:
            await self.bury([job], "deleted")

    async def bury(self, jobs: list[Job], why: Literal["deleted", "expired"]) -> None:
        """Replace the rows of jobs that have ended by tombstones, and remove their files."""
        await self._jobs.store.bury(jobs, why, self._clock.now())
        for job in jobs:
            self._jobs.cache.forget(job.job_id)
        await self._cleaning.remove(jobs)

    def retired_before(self) -> float | None:
        """Jobs that ended before this moment (unix seconds) are kept no longer. None: all are kept."""
        return None if self.retention_s is None else self._clock.now() - self.retention_s

    def _device_seconds(self, job: Job) -> float:
        """That a job which ends has used: at most what it takes alone on a device, and what it ran."""
        if job.started_at is None or job.completed_at is None or not needs_renderer(job.pool):
            return 0.0
        run = job.completed_at - job.started_at
        alone = self._estimates.device_seconds(job)
        return run if alone is None else min(run, alone)

    def _is_over(self, job: Job) -> None:
        self._deadlines.forget(job.job_id)
        if job.status is Status.REVOKED:
            self._dispatcher.stop(job)
        self._observe(job)

    def _observe(self, job: Job) -> None:
        assert job.completed_at is not None
        said = self._estimates.ended(job, others=self._dispatcher.beside(job))
        self._metrics.finished(job.status.value, job.summary["model"])
        self._dispatcher.observe_depth()
        if job.status is Status.REVOKED or job.started_at is None:
            return
        self._dispatcher.pauses.reset_backoff(job.pool)
        run = job.completed_at - job.started_at
        if said is not None:
            self._metrics.eta_error(abs(said - (job.completed_at - job.created_at)))
        if needs_renderer(job.pool):
            self._metrics.share(job.client, self._estimates.device_seconds(job) or run)
        self._metrics.times(queue_s=job.started_at - job.created_at, run_s=run)
        log.info("%s after %.2f s", job.status.value, run, extra={"job_id": job.job_id})
