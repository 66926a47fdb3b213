"""Outlook: what is said of a job while it lives: its place, when it will be done, why it waits.

Reads the registry's memory and the line, changes neither; what it says it checks against what came.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from serve_app.jobs.forecast import Forecast
from serve_app.jobs.job import Job, Status, work_of
from serve_app.jobs.ledger import Ledger
from serve_app.jobs.line import Line
from serve_app.messages import JobView


class Outlook:
    def __init__(
        self, ledger: Ledger, line: Line, why_paused: Callable[[], str | None], epoch: int
    ) -> None:
        self._ledger, self._line, self._why_paused, self._epoch = ledger, line, why_paused, epoch
        self._forecast = Forecast()
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
                ahead = self._work_running(job) + (place.work if place else 0.0)
                eta = self._forecast.until_done(job.work, ahead)
        elif job.status is Status.STARTED:
            eta = self._eta_of_running(job)
        return job.view(
            self._epoch, position=position, eta=eta, paused=paused, retention_s=self.retention_s
        )

    def of_new(self, params: dict[str, Any], client: str) -> float | None:
        """Seconds until an order would be done that came now; None: unknown."""
        ahead = self._work_running(None) + self._line.place_of_new(client).work
        return None if self._why_paused() else self._forecast.until_done(work_of(params), ahead)

    def seconds_per_place(self) -> float:
        """How fast the line moves."""
        mean = self._line.mean_work() or 1.0
        return self._forecast.until_done(mean, 0.0) or 1.0

    # ---- what came ----

    def promise(self, job: Job) -> None:
        """It is about to join the line: remember what is said of it."""
        if (seconds := self.of_new(job.params, job.client)) is not None:
            self._promised[job.job_id] = seconds

    def admitted(self, job: Job, solo_seconds: float | None) -> None:
        self._forecast.busy(time.monotonic())
        if solo_seconds is not None:
            self._forecast.admitted(job.work, solo_seconds)

    def ended(self, job: Job, *, others: int) -> float | None:
        """`others`: jobs in flight beside it. What had been promised of it, if that can be judged."""
        said = self._promised.pop(job.job_id, None)
        if job.status is not Status.SUCCESS or job.started_at is None or job.completed_at is None:
            # How long a job took that was cut short says nothing of those that are not.
            if others == 0:
                self._forecast.idle()
            return None
        run = job.completed_at - job.started_at
        self._forecast.ended(job.work, run, time.monotonic(), idle=others == 0)
        if said is None or job.fence > 1:
            return None
        self._forecast.promised(said, job.completed_at - job.created_at)
        return said

    def device_seconds(self, job: Job) -> float | None:
        return self._forecast.solo(job.work)

    def stats(self) -> dict[str, Any]:
        return {
            "promised": len(self._promised),
            "pace": round(self._forecast.pace, 3),
            "eta_error": self._forecast.errors(),
        }

    # ---- how it is found ----

    def _eta_of_running(self, job: Job) -> float | None:
        """What its engine said, or what such jobs take as a rule."""
        said = (job.progress or {}).get("eta_seconds")
        if said is not None:
            return max(0.0, said - (time.monotonic() - job.reported_at))
        return self._forecast.until_done(job.work, 0.0)

    def _launched_before(self, job: Job) -> int:
        """Jobs with an attempt that no renderer has taken yet, and that come before this one."""
        waiting = [j for j in self._ledger.running.values() if j.status.waiting]
        if job.job_id in self._ledger.running:
            return sum(j.order < job.order for j in waiting)
        return len(waiting)

    def _work_running(self, job: Job | None) -> float:
        """Work left of the jobs in flight, as far as it comes before `job`; None: before a new one."""
        own = None if job is None else self._ledger.running.get(job.job_id)
        left = 0.0
        for other in self._ledger.running.values():
            if own is not None and (other.job_id == own.job_id or other.order > own.order):
                continue
            left += other.work * (1 - ((other.progress or {}).get("value") or 0.0))
        return left
