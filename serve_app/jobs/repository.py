"""JobRepository: every job. Keeps the row and what memory holds of it in step.

Knows which attempt may change a job, not when or why it changes.
"""

from __future__ import annotations

from serve_app.jobs.cache import JobCache
from serve_app.jobs.job import Job
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import JobChanges


class JobRepository:
    """A change is written to the row first, then to memory; then watchers are told."""

    def __init__(self, store: SqliteStore, cache: JobCache) -> None:
        self.store, self.cache = store, cache
        self.in_flight: dict[
            str, int
        ] = {}  # job id -> fence of the attempt that is driven; 0: none yet

    async def find(self, job_id: str) -> Job | None:
        """The job, from memory or from its row. None: there is no row. Raises sqlite3.Error."""
        if (job := self.cache.get(job_id)) is not None:
            return job
        stored = await self.store.get(job_id)
        return None if stored is None else self.cache.newest(stored)

    def held_by(self, job_id: str, fence: int) -> Job | None:
        """The job, if it has not ended and this is the attempt that is driven now."""
        job = self.cache.running.get(job_id)
        if job is None or job.status.terminal:
            return None
        return job if job.fence == fence == self.in_flight.get(job_id) else None

    async def save(self, job: Job, expected_fence: int, device_seconds: float = 0.0) -> bool:
        """False, and nothing changed, if the row has another fence or has ended. `device_seconds`: what a job
        that ends has used. Raises sqlite3.Error."""
        labels = await self.store.update(
            job, expected_fence=expected_fence, device_seconds=device_seconds
        )
        if labels is None:
            return False
        self.written(job.evolve(labels=labels))
        return True

    def written(self, job: Job) -> Job:
        """Its row is so now: memory follows, unless it holds something newer. Returns the job."""
        latest = self.cache.get(job.job_id)
        if latest is None or (latest.fence <= job.fence and not latest.status.terminal):
            self.remember(job)
        return job

    def remember(self, job: Job) -> Job:
        """Hold `job` as its newest state, and tell the watchers. Returns it with its revision. Its labels are
        those of memory: whoever changed something else may have read it before they were changed."""
        latest = self.cache.get(job.job_id)
        return self._hold(job if latest is None else job.evolve(labels=latest.labels))

    async def relabel(self, job_id: str, changes: JobChanges) -> Job | None:
        """The job, with other labels. None: there is no row. Raises sqlite3.Error."""
        stored = await self.store.relabel(job_id, changes)
        if stored is None:
            return None
        return self._hold(self.cache.newest(stored).evolve(labels=stored.labels))

    def _hold(self, job: Job) -> Job:
        running = job.job_id in self.in_flight and not job.status.terminal
        return self.cache.hold(job, running=running)
