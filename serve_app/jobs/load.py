"""Load: how much work is in flight, and how much of it comes before a job.

Knows the jobs with an attempt in flight as rows of numbers; nothing of the line, nor of how fast devices are.
"""

from __future__ import annotations

import math

import numpy as np

from serve_app.jobs.columns import Columns
from serve_app.jobs.job import Job
from serve_app.priorities import PATIENCE_OF


class Load:
    """Work is in megapixel steps, times are unix seconds."""

    def __init__(self) -> None:
        # `started`: NaN until a renderer has admitted it. `waits`: 1 or 0.
        self._jobs = Columns("number", "waits", "started", "work", "left", "patience")

    def put(self, job: Job) -> None:
        """The job has an attempt in flight, and is now in this state."""
        done = (job.progress or {}).get("value") or 0.0
        self._jobs.put(
            job.job_id,
            job.number,
            job.status.waiting,
            math.nan if job.started_at is None else job.started_at,
            job.work,
            job.work * (1 - done),
            PATIENCE_OF[job.priority],
        )

    def drop(self, job_id: str) -> None:
        self._jobs.drop(job_id)

    def launched_before(self, job: Job) -> int:
        """Number of jobs before this one that have left the line, and that no renderer has admitted yet."""
        waits = self._jobs["waits"]
        if self._jobs.row(job.job_id) is None:
            return int(np.count_nonzero(waits))
        return int(np.count_nonzero((waits > 0) & (self._jobs["number"] < job.number)))

    def before(self, due: float, now: float, seconds_per_work: float, job: Job | None) -> float:
        """Work that is left of the jobs that an engine wants done until `due`. Not of `job` itself, nor of
        what came after it and is not admitted. An engine wants a job done `PATIENCE_OF` times its solo time
        after its admission, and what is not admitted yet may be so `now`."""
        jobs = self._jobs
        if not jobs:
            return 0.0
        started = jobs["started"]
        launched = np.isnan(started)
        counts = np.ones(len(jobs), dtype=bool)
        if due < math.inf:
            began = np.where(launched, now, started)
            counts = began + jobs["patience"] * seconds_per_work * jobs["work"] <= due
        if job is not None:
            counts &= ~(launched & (jobs["number"] > job.number))
            if (own := jobs.row(job.job_id)) is not None:
                counts[own] = False
        return float(jobs["left"] @ counts)
