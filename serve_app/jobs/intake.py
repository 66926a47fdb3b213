"""Intake: what becomes of an order: a new job, the job that it already is, or a refusal.

Knows the limits of the line, and what the store says of repeated orders. Knows nothing of HTTP, nor of what
an order asks for. A new job is committed before anybody hears of it.
"""

from __future__ import annotations

import logging
import sqlite3
import time

from serve_app.jobs.clock import Clock
from serve_app.jobs.deadlines import Deadlines
from serve_app.jobs.dispatcher import Dispatcher
from serve_app.jobs.estimates import Estimates
from serve_app.jobs.job import Job
from serve_app.jobs.line import Entry
from serve_app.jobs.repository import JobRepository
from serve_app.jobs.store.sqlite import LiveJob
from serve_app.messages import JobError, Submission, SubmitReply
from serve_app.metrics import JobMetrics

log = logging.getLogger("assets.registry")


class Intake:
    def __init__(
        self,
        jobs: JobRepository,
        dispatcher: Dispatcher,
        estimates: Estimates,
        deadlines: Deadlines,
        metrics: JobMetrics,
        clock: Clock,
    ) -> None:
        self._jobs, self._dispatcher, self._estimates = jobs, dispatcher, estimates
        self._deadlines, self._metrics, self._clock = deadlines, metrics, clock
        self.max_pending = 1  # jobs that may wait
        self.idempotency_s = 0.0  # how long an idempotency key is remembered
        self._arriving = 0  # orders on their way to the disk

    async def submit(self, order: Submission) -> SubmitReply:
        known = self._jobs.cache.get(order["job_id"])
        if known is not None:  # the transport repeats a call whose answer was lost
            return SubmitReply(job=self._estimates.view(known), replayed=False)
        if time.time() > order["deadline"]:
            return _refused("too_late", "The registry was busy; submit again.", retry_after=1)
        job = self._new_job(order)
        full = self._dispatcher.waiting() + self._arriving >= self.max_pending
        self._arriving += 1
        try:
            inserted = await self._jobs.store.insert(
                job,
                key=order.get("idempotency_key"),
                body_hash=order.get("body_hash", ""),
                key_expires_before=job.created_at - self.idempotency_s,
                only_replay=full,
            )
        except sqlite3.Error as error:
            log.error("submit not stored: %s", error)
            return _refused("storage_failed", "The job could not be stored.", retry_after=5)
        finally:
            self._arriving -= 1
        if inserted is None:
            return self._full()
        if not inserted.same_body:
            return _refused("idempotency_key_reuse", "This key came with another body before.")
        if inserted.existed:
            return await self._replay(inserted.job_id, order)
        return self._accept(job)

    def join(self, job: Job | LiveJob) -> None:
        """A stored job joins the line, and its deadline counts."""
        self._dispatcher.enqueue(Entry(job.place, job.job_id, job.client, job.work))
        if job.deadline is not None:
            self._deadlines.set(job.job_id, job.deadline - self._clock.now())

    def _accept(self, job: Job) -> SubmitReply:
        self._estimates.promise(job)
        job = self._jobs.remember(job)
        self.join(job)
        self._metrics.submitted()
        self._dispatcher.observe_depth()
        return SubmitReply(job=self._estimates.view(job), replayed=False)

    async def _replay(self, job_id: str, order: Submission) -> SubmitReply:
        """The job that stands for the order, by its id or its idempotency key."""
        stands = await self._jobs.find(job_id)
        if stands is None:
            return _refused("deleted", "This order was taken, and the job was deleted since.")
        return SubmitReply(job=self._estimates.view(stands), replayed=job_id != order["job_id"])

    def _new_job(self, order: Submission) -> Job:
        number = self._clock.number()
        created_at = number / 1e6
        cancel_after = order.get("cancel_after_s")
        return Job(
            order["job_id"],
            order["owner"],
            order["params"],
            order["summary"],
            order["labels"],
            created_at,
            number,
            deadline=None if cancel_after is None else created_at + cancel_after,
        )

    def _full(self) -> SubmitReply:
        """Refused until ten jobs have left the line, as a guess: between a second and a minute."""
        wait = self._estimates.seconds_per_place() * 10
        detail = f"{self.max_pending} jobs wait already."
        return _refused("queue_full", detail, retry_after=min(60.0, max(1.0, wait)))


def _refused(code: str, detail: str, *, retry_after: float | None = None) -> SubmitReply:
    """`retry_after`: seconds; None: the same order will never be taken."""
    error = JobError(code=code, title=detail, detail=detail, retryable=retry_after is not None)
    reply = SubmitReply(error=error)
    if retry_after is not None:
        reply["retry_after"] = retry_after
    return reply
