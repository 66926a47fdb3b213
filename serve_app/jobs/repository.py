"""JobRepository: every job, its row and the memory of it kept in step.

Knows who may change a job (the attempt that is driven now), not when or why it changes.
"""

from __future__ import annotations

from serve_app.jobs.cache import JobCache
from serve_app.jobs.job import Job
from serve_app.jobs.store.sqlite import SqliteStore


class JobRepository:
    """Row first, then memory, then whoever watches."""

    def __init__(self, store: SqliteStore, cache: JobCache) -> None:
        self.store, self.cache = store, cache
        self.in_flight: dict[str, int] = {}  # job id -> fence of the attempt that is driven

    async def find(self, job_id: str) -> Job | None:
        """From memory, or from its row."""
        if (job := self.cache.get(job_id)) is not None:
            return job
        stored = await self.store.get(job_id)
        return None if stored is None else self.cache.known(stored)

    def held_by(self, job_id: str, fence: int) -> Job | None:
        """The job, if this attempt is the one that is driven now, and nobody ended it meanwhile."""
        job = self.cache.running.get(job_id)
        if job is None or job.status.terminal:
            return None
        return job if job.fence == fence == self.in_flight.get(job_id) else None

    async def save(self, job: Job, expected_fence: int) -> bool:
        """False, and nothing changed, if the row has moved on."""
        if not await self.store.update(job, expected_fence=expected_fence):
            return False
        latest = self.cache.get(job.job_id)
        if latest is None or (latest.fence <= job.fence and not latest.status.terminal):
            self.touch(job)
        return True

    def touch(self, job: Job) -> Job:
        """Hold `job` as the newest truth and tell the watchers."""
        running = job.job_id in self.in_flight and not job.status.terminal
        return self.cache.hold(job, running=running)
