"""Estimates: what is said of a job while it lives. Its place in line, when it will be done, why it waits.

Reads the registry's memory and the line, changes neither. It learns from how far it was off.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from serve_app.jobs.cache import JobCache
from serve_app.jobs.durations import Durations
from serve_app.jobs.job import Job, Status
from serve_app.jobs.line import Line, Place
from serve_app.messages import JobView
from serve_app.priorities import PATIENCE_OF

NEXT = Place(0, 0.0)


class Estimates:
    """`now`: unix seconds, of the clock that gave the jobs their times."""

    def __init__(
        self,
        cache: JobCache,
        line: Line,
        why_paused: Callable[[], str | None],
        epoch: int,
        now: Callable[[], float],
    ) -> None:
        self._cache, self._line, self._why_paused, self._epoch = cache, line, why_paused, epoch
        self._now = now
        self._durations = Durations()
        self._promised: dict[str, float] = {}  # job id -> seconds it was said to take when it came
        self.retention_s: float | None = None

    # ---- what is said ----

    def view(self, job: Job) -> JobView:
        position, eta = None, None
        paused = self._why_paused()
        if job.status.waiting:
            place = self._line.place(job.job_id)
            position = self._launched_before(job) + (place.ahead if place else 0) + 1
            if paused is None:
                eta = self._until_done(job.work, job.priority, place or NEXT, job)
        elif job.status is Status.STARTED:
            eta = self._eta_of_running(job)
        return job.view(
            self._epoch, position=position, eta=eta, paused=paused, retention_s=self.retention_s
        )

    def of_new(self, work: float, client: str, priority: str = "normal") -> float | None:
        """Seconds until a job of `work` megapixel steps would be done that came now; None: unknown."""
        place = self._line.place_of_new(client)
        return None if self._why_paused() else self._until_done(work, priority, place)

    def seconds_per_place(self) -> float:
        """How fast the line moves."""
        mean = self._line.mean_work() or 1.0
        return self._durations.until_done(mean, 0.0) or 1.0

    # ---- what came ----

    def promise(self, job: Job) -> None:
        """It is about to join the line: remember what is said of it."""
        if (seconds := self.of_new(job.work, job.client, job.priority)) is not None:
            self._promised[job.job_id] = seconds

    def admitted(self, job: Job, solo_seconds: float | None) -> None:
        self._durations.busy(time.monotonic())
        if solo_seconds is not None:
            self._durations.admitted(job.work, solo_seconds)

    def ended(self, job: Job, *, others: int) -> float | None:
        """`others`: jobs in flight beside it. What had been promised of it, if that can be judged."""
        said = self._promised.pop(job.job_id, None)
        if job.status is not Status.SUCCESS or job.started_at is None or job.completed_at is None:
            # How long a job took that was cut short says nothing of those that are not.
            if others == 0:
                self._durations.idle()
            return None
        run = job.completed_at - job.started_at
        self._durations.ended(job.work, run, time.monotonic(), idle=others == 0)
        if said is None or job.fence > 1:
            return None
        self._durations.promised(said, job.completed_at - job.created_at)
        return said

    def device_seconds(self, job: Job) -> float | None:
        return self._durations.solo(job.work)

    def stats(self) -> dict[str, Any]:
        return {
            "promised": len(self._promised),
            "pace": round(self._durations.pace, 3),
            "eta_error": self._durations.errors(),
        }

    # ---- how it is found ----

    def _eta_of_running(self, job: Job) -> float | None:
        """What its engine said, or what such jobs take as a rule."""
        said = (job.progress or {}).get("eta_seconds")
        if said is not None:
            return max(0.0, said - (time.monotonic() - job.reported_at))
        return self._durations.until_done(job.work, 0.0)

    def _launched_before(self, job: Job) -> int:
        """Jobs with an attempt that no renderer has taken yet, and that come before this one."""
        waiting = [j for j in self._cache.running.values() if j.status.waiting]
        if job.job_id in self._cache.running:
            return sum(j.number < job.number for j in waiting)
        return len(waiting)

    def _until_done(
        self, work: float, priority: str, place: Place, job: Job | None = None
    ) -> float | None:
        """With jobs queued ahead: after all running ones. Otherwise: only after running ones that an engine
        finds due earlier. `job`: None if it is not ordered yet."""
        now = self._now()
        due = math.inf if place.ahead else self._due(now, work, priority)
        ahead = place.work
        for other in self._cache.running.values():
            if job is not None and (
                other.job_id == job.job_id
                or (other.started_at is None and other.number > job.number)
            ):
                continue
            if self._due(other.started_at or now, other.work, other.priority) <= due:
                ahead += other.work * (1 - ((other.progress or {}).get("value") or 0.0))
        return self._durations.until_done(work, ahead)

    def _due(self, joined: float, work: float, priority: str) -> float:
        """When an engine wants to have it done, as `PATIENCE_OF` says. Unix seconds."""
        return joined + PATIENCE_OF[priority] * (self._durations.solo(work) or 0.0)
