"""Record: the state of every job, its row and the memory of it kept in step.

Knows who may change a job (the attempt that is driven now), not when or why it changes.
"""

from __future__ import annotations

from serve_app.jobs.job import Job
from serve_app.jobs.ledger import Ledger
from serve_app.jobs.store import SqliteStore
from serve_app.metrics import JobMetrics


class Record:
    """Row first, then memory, then whoever watches."""

    def __init__(self, store: SqliteStore, ledger: Ledger, metrics: JobMetrics) -> None:
        self.store, self.ledger, self._metrics = store, ledger, metrics
        self.in_flight: dict[str, int] = {}  # job id -> fence of the attempt that is driven

    def held_by(self, job_id: str, fence: int) -> Job | None:
        """The job, if this attempt is the one that is driven now."""
        job = self.ledger.live.get(job_id)
        owned = job is not None and job.fence == fence == self.in_flight.get(job_id)
        return job if owned else None

    async def save(self, job: Job, expected_fence: int) -> bool:
        """False, and nothing changed, if the row has moved on."""
        if not await self.store.update(job, expected_fence=expected_fence):
            return False
        latest = self.ledger.live.get(job.job_id)
        if latest is not None and latest.fence <= job.fence:
            self.touch(job)
        return True

    def touch(self, job: Job) -> Job:
        """Hold `job` as the newest truth and tell the watchers."""
        job = self.ledger.hold(job)
        self._metrics.depth(self.waiting(), len(self.in_flight))
        return job

    def waiting(self) -> int:
        """Jobs that have neither ended nor an attempt."""
        return len(self.ledger.live) - len(self.in_flight)
