"""Estimates: what clients are told of a live job: its position, when it will be done, why it waits.

Reads the cache and the line, and changes neither. It learns from the jobs that end, and compares what it said
with what happened.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from serve_app.jobs.cache import JobCache
from serve_app.jobs.durations import Durations
from serve_app.jobs.job import Job, Status
from serve_app.jobs.line import Ahead
from serve_app.jobs.lines import Lines, needs_renderer
from serve_app.messages import JobView
from serve_app.params import DEFAULT_POOL
from serve_app.priorities import PATIENCE_OF

NOTHING = Ahead(0, 0.0)


class Estimates:
    """`now`: unix seconds, of the clock that the jobs' times come from."""

    def __init__(
        self,
        cache: JobCache,
        lines: Lines,
        why_paused: Callable[[str], str | None],
        epoch: int,
        now: Callable[[], float],
    ) -> None:
        self._loads, self._lines, self._why_paused, self._epoch = (
            cache.loads,
            lines,
            why_paused,
            epoch,
        )
        self._now = now
        self._durations: defaultdict[str, Durations] = defaultdict(Durations)  # by pool
        self._promised: dict[str, float] = {}  # job id -> seconds, estimated at submit
        self.retention_s: float | None = None

    # ---- telling ----

    def view(self, job: Job) -> JobView:
        """What a client may see of the job now."""
        position, eta = None, None
        # Since it was ordered, other pools may have been deployed.
        pool = self._lines.pool_of(job.job_id) or job.pool
        paused = self._why_paused(pool)
        if job.status.waiting:
            ahead = self._lines.of(pool).ahead_of(job.job_id) or NOTHING
            position = self._loads[pool].launched_before(job) + ahead.jobs + 1
            if paused is None:
                eta = self._until_done(pool, job.work, job.priority, ahead, job)
        elif job.status is Status.STARTED:
            eta = self._eta_of_running(job)
        return job.view(
            self._epoch, position=position, eta=eta, paused=paused, retention_s=self.retention_s
        )

    def of_new(self, work: float, client: str, pool: str = DEFAULT_POOL) -> float | None:
        """Seconds until a job of `work` megapixel steps is done, if it is submitted now. None: unknown,
        because nothing has run yet or nothing is launched."""
        if self._why_paused(pool):
            return None
        return self._until_done(pool, work, "normal", self._lines.of(pool).ahead_of_new(client))

    def of_many(
        self, work: float, jobs: int, client: str, pool: str = DEFAULT_POOL
    ) -> float | None:
        """Seconds until so many jobs of `work` megapixel steps together are done, if they are submitted now.
        None: unknown."""
        if self._why_paused(pool):
            return None
        ahead = self._lines.of(pool).ahead_of_new(client)
        one = work / jobs
        others = Ahead(ahead.jobs + jobs - 1, ahead.work + work - one)
        return self._until_done(pool, one, "normal", others)

    def seconds_per_place(self) -> float:
        """Seconds until all lines together are one job shorter; 1 while nothing is known."""
        each = (
            self._durations[pool].until_done(line.mean_work() or 1.0, 0.0)
            for pool, line in self._lines.waiting().items()
        )
        per_second = sum(1 / seconds for seconds in each if seconds)
        return 1 / per_second if per_second else 1.0

    # ---- learning ----

    def promised(self, new: JobView) -> None:
        """A new job was shown to its client so: keeps the estimate, to compare it with its end."""
        if (seconds := new["eta_seconds"]) is not None:
            self._promised[new["job_id"]] = seconds

    def admitted(self, job: Job, solo_seconds: float | None) -> None:
        """A renderer has the job. `solo_seconds`: what its engine predicts, if it does."""
        durations = self._durations[job.pool]
        durations.busy(time.monotonic())
        if solo_seconds is not None:
            durations.admitted(job.work, solo_seconds)

    def ended(self, job: Job, *, others: int) -> float | None:
        """`others`: jobs in flight beside it in its pool. Returns the seconds estimated at submit, if the job
        succeeded at its first attempt: only then do they compare with the time it took."""
        said, durations = self._promised.pop(job.job_id, None), self._durations[job.pool]
        if job.status is not Status.SUCCESS or job.started_at is None or job.completed_at is None:
            # The time of a job that was cut short says nothing about complete ones.
            if others == 0:
                durations.idle()
            return None
        run = job.completed_at - job.started_at
        durations.ended(job.work, run, time.monotonic(), idle=others == 0)
        if said is None or job.fence > 1:
            return None
        durations.compare(said, job.completed_at - job.created_at)
        return said

    def device_seconds(self, job: Job) -> float | None:
        """Seconds it takes alone on a device. None: nothing has run yet."""
        return self._durations[job.pool].solo(job.work)

    def seconds_of(self, pool: str, work: float) -> float:
        """Device seconds of so many megapixel steps, alone on a device; 0: nothing has run yet, or the pool
        needs no device."""
        return self._durations[pool].solo(work) or 0.0 if needs_renderer(pool) and work else 0.0

    def stats(self) -> dict[str, Any]:
        return {
            "promised": len(self._promised),
            "pace": {pool: round(known.pace, 3) for pool, known in self._durations.items()},
            "eta_error": {pool: known.errors() for pool, known in self._durations.items()},
        }

    # ---- how an estimate is made ----

    def _eta_of_running(self, job: Job) -> float | None:
        """What its engine said last, minus the time since then; else what such jobs take on average."""
        said = (job.progress or {}).get("eta_seconds")
        if said is not None:
            return max(0.0, said - (time.monotonic() - job.reported_at))
        return self._durations[job.pool].until_done(job.work, 0.0)

    def _until_done(
        self, pool: str, work: float, priority: str, queued: Ahead, job: Job | None = None
    ) -> float | None:
        """With jobs queued ahead: after all running ones. Otherwise: only after the running ones that are due
        earlier, since engines draw what is due first. `job`: None if it is not submitted yet."""
        now, durations = self._now(), self._durations[pool]
        rate = durations.solo(1.0) or 0.0
        # Tasks without a renderer run to their end: nobody passes.
        in_turn = queued.jobs or not needs_renderer(pool)
        due = math.inf if in_turn else now + PATIENCE_OF[priority] * rate * work
        before = self._loads[pool].before(due, now, rate, job)
        return durations.until_done(work, queued.work + before)
