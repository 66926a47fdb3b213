"""Outcomes: what the end of an attempt means for its job.

Knows kinds of outcomes and how often a job may meet each; nothing of who launches or draws.
"""

from __future__ import annotations

import logging

from serve_app.jobs.background import Background
from serve_app.jobs.cleaning import Cleaning
from serve_app.jobs.clock import Clock
from serve_app.jobs.endings import Endings
from serve_app.jobs.job import Job, Status
from serve_app.jobs.pools import Pools
from serve_app.jobs.repository import JobRepository
from serve_app.messages import JobError, Outcome
from serve_app.metrics import JobMetrics

log = logging.getLogger("assets.registry")

REFUSALS = 3
"""A job fails when so many renderers could not draw it for a reason that may be their own."""
OUTDATED = 6
"""A job of weights that are not served any more fails when it met so many renderers without them."""
STOPS_ALONE = 3
STOPS = 8
"""A job whose renderers are told to stop, or whose registry ends, time after time, runs alone from the third
on; from the eighth on each counts like a death, for a job that brings its machine down looks
the same. A task that is lost before it said that it works never counts: a cluster where tasks cannot run
would fail the whole line."""
TASK_STAGES = frozenset({"finishing", "packing"})
"""Stages of a job whose own Ray task works on pixels."""


class Outcomes:
    def __init__(
        self,
        jobs: JobRepository,
        endings: Endings,
        cleaning: Cleaning,
        pools: Pools,
        metrics: JobMetrics,
        clock: Clock,
        background: Background,
    ) -> None:
        self._jobs, self._endings, self._cleaning = jobs, endings, cleaning
        self._pools, self._metrics = pools, metrics
        self._clock, self._background = clock, background
        self.max_attempts = 1

    async def settle(self, begun: Job, outcome: Outcome) -> bool:
        """The attempt `begun.fence` is over. True: its job needs another one. Raises sqlite3.Error."""
        job = self._jobs.held_by(begun.job_id, begun.fence)
        if job is not None:
            if outcome["kind"] == "drawn":
                await self._publish(job, outcome)
            elif await self._needs_another(job, outcome):
                return True
        latest = await self._jobs.find(begun.job_id)  # None: it is deleted
        if latest is None or latest.status in (Status.FAILURE, Status.REVOKED):
            # What the attempt wrote after the job had ended. A slow disk must not keep its place in flight.
            self._background.spawn(self._cleaning.remove([begun]))
        return False

    async def interrupted(self, job: Job) -> None:
        """An earlier registry ended while the job was STARTED. Time after time that may be its own fault: it
        may bring the whole machine down. Raises sqlite3.Error."""
        reason = "the registry ended while it was drawn"
        await self._needs_another(job, Outcome(kind="stopped", reason=reason))

    async def _publish(self, job: Job, outcome: Outcome) -> None:
        """The report of a short attempt's admission may come after its end."""
        began = max(job.created_at, self._clock.now() - outcome.get("run_s", 0.0))
        ended = job.evolve(
            status=Status.SUCCESS,
            started_at=job.started_at or began,
            images=tuple(outcome.get("images", ())),
        )
        await self._background.complete(self._endings.end(ended))

    async def _needs_another(self, job: Job, outcome: Outcome) -> bool:
        kind = outcome["kind"]
        log.warning(
            "attempt %d %s: %s", job.fence, kind, outcome["reason"], extra={"job_id": job.job_id}
        )
        if kind == "released":
            return await self._jobs.save(job.evolve(waiting_for=None), job.fence)
        times = job.troubles.get(kind, 0) + 1
        attempts = job.attempts + self._counts(job, kind, times)
        if error := self._final(job, outcome, times, attempts):
            await self._endings.end(
                job.evolve(status=Status.FAILURE, error=error, attempts=attempts)
            )
            return False
        self._metrics.retried(kind)
        again = job.evolve(
            status=Status.RETRY,
            started_at=None,
            progress=None,
            preview=None,
            waiting_for="model" if kind == "outdated" else None,
            attempts=attempts,
            alone=job.alone
            or kind in ("died", "refused")
            or (kind == "stopped" and times >= STOPS_ALONE),
            troubles={**job.troubles, kind: times},
        )
        return await self._jobs.save(again, job.fence)

    def _counts(self, job: Job, kind: str, times: int) -> bool:
        """Whether this is a death that the job may have caused. The report of an admission in company may
        have been lost, so such a job runs alone next; alone it does not begin before it is STARTED here."""
        match kind:
            case "died":
                return job.status is Status.STARTED
            case "lost":  # while its own task worked on pixels, which may be too much for a process
                return (job.progress or {}).get("stage") in TASK_STAGES
            case _:
                return kind == "stopped" and times >= STOPS

    def _final(self, job: Job, outcome: Outcome, times: int, attempts: int) -> JobError | None:
        """Why the job is given up; None: it is tried again."""
        match outcome["kind"]:
            case "failed":
                return outcome.get("error")
            case "refused" if times >= REFUSALS:
                return outcome.get("error")
            case "outdated" if times >= OUTDATED and not self._is_served(job):
                return MODEL_CHANGED
            case _:
                if attempts < self.max_attempts or attempts == job.attempts:
                    return None  # or somebody has lowered the limit: that alone ends no job
                return _given_up(outcome["kind"], times, attempts)

    def _is_served(self, job: Job) -> bool:
        """A rollout is under way, and a renderer with these weights will come."""
        return self._pools.serve(job.summary["model"], job.summary["model_revision"])


MODEL_CHANGED = JobError(
    code="model_changed",
    title="These weights are not served any more",
    detail="No renderer has the weights that this job was ordered of.",
    retryable=True,
)


def _given_up(kind: str, times: int, deaths: int) -> JobError:
    if kind == "lost":
        return JobError(
            code="task_died",
            title="The process that worked on it died",
            detail=f"This happened {deaths} times; it may need more memory than there is.",
            retryable=True,
        )
    if kind == "stopped":
        detail = f"Its renderer or its registry was stopped {times} times."
    else:
        detail = f"This happened {deaths} times."
    return JobError(
        code="renderer_died",
        title="The renderer died while it drew this",
        detail=detail,
        retryable=True,
    )
