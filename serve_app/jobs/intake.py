"""Intake: what becomes of an order: a new job, the job that it already is, or a refusal.

Knows the limits of the line, and what the store says of repeated orders. Knows nothing of HTTP, nor of what
an order asks for. A new job is committed before anybody hears of it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Generator, Sequence

from serve_app.jobs.bulletin import Bulletin
from serve_app.jobs.clock import Clock
from serve_app.jobs.deadlines import Deadlines
from serve_app.jobs.dispatcher import Dispatcher
from serve_app.jobs.estimates import Estimates
from serve_app.jobs.job import Job
from serve_app.jobs.line import Entry
from serve_app.jobs.lines import Lines
from serve_app.jobs.pools import Pools
from serve_app.jobs.quotas import OverQuota, Quotas
from serve_app.jobs.repository import JobRepository
from serve_app.jobs.store.sqlite import Inserted, LiveJob
from serve_app.messages import Allowance, JobError, Submission, SubmitReply, Summary
from serve_app.metrics import JobMetrics

log = logging.getLogger("assets.registry")

OTHER_BODY = "This key came with another body before."
ANSWERED_S = 0.5
"""An ingress waits a second beyond the deadline for an answer. An answer that is given within so many seconds
still reaches it."""


class Intake:
    def __init__(
        self,
        jobs: JobRepository,
        lines: Lines,
        dispatcher: Dispatcher,
        estimates: Estimates,
        bulletin: Bulletin,
        deadlines: Deadlines,
        metrics: JobMetrics,
        clock: Clock,
        pools: Pools,
        quotas: Quotas,
    ) -> None:
        self._jobs, self._lines, self._dispatcher = jobs, lines, dispatcher
        self.pools, self.quotas = pools, quotas
        self._estimates, self._bulletin = estimates, bulletin
        self._deadlines, self._metrics, self._clock = deadlines, metrics, clock
        self.max_pending = 1  # jobs that may wait
        self.idempotency_s = 0.0  # how long an idempotency key is remembered
        self._arriving: Counter[str] = Counter()  # owner -> orders on their way to the disk

    async def submit(self, order: Submission) -> SubmitReply:
        known = self._jobs.cache.get(order["job_id"])
        if known is not None:  # the transport repeats a call whose answer was lost
            return SubmitReply(job=self._estimates.view(known), replayed=False)
        job, over = self._new_job(order), None
        try:
            if quota := order.get("quota"):
                over = await self._over_quota(job, quota)
            full = not self.room(job.owner)
            with self.arriving(job.owner, [job.summary]):
                stands = await self._insert(job, order, full=full or over is not None)
                if not isinstance(stands, str):
                    return await self._taken(job, order, stands)
        except sqlite3.Error as error:
            log.error("submit not stored: %s", error)
            return refusal("storage_failed", "The job could not be stored.", retry_after=5)
        if stands == "queue_full":
            return over_refusal(over) if over is not None else self._full()
        return too_late()

    async def known(self, owner: str, key: str, body_hash: str) -> SubmitReply | None:
        """The job that the owner ordered under this key. None: there is none; it may be a batch's."""
        stands = await self._jobs.store.of_key(owner, key, body_hash)
        job = stands and await self._jobs.find(stands.job_id)
        if not stands or (stands.same_body and job is None):
            return None
        if job is None or not stands.same_body:
            return refusal("idempotency_key_reuse", OTHER_BODY)
        return SubmitReply(job=self._estimates.view(job), replayed=True)

    async def _insert(self, job: Job, order: Submission, *, full: bool) -> Inserted | str:
        """Which job stands for the order, or the code of its refusal. Raises sqlite3.Error."""

        def refused() -> str | None:  # called by the writer's thread
            if time.time() > order["deadline"]:
                return "too_late"
            return "queue_full" if full else None

        return await self._jobs.store.insert(
            job,
            key=order.get("idempotency_key"),
            body_hash=order.get("body_hash", ""),
            key_expires_before=job.created_at - self.idempotency_s,
            refused=refused,
        )

    async def _taken(self, job: Job, order: Submission, stands: Inserted) -> SubmitReply:
        if not stands.same_body:
            return refusal("idempotency_key_reuse", OTHER_BODY)
        if stands.existed:
            return await self._replay(stands.job_id, order)
        if await self._nobody_waits_for(job, order):
            return too_late()
        return self._accept(job)

    async def _nobody_waits_for(self, job: Job, order: Submission) -> bool:
        """The commit itself took so long that the client has been told that the order failed: take it back.
        But not under a key, since then the client may come again for it, and another call may have found
        it."""
        if order.get("idempotency_key") or time.time() < order["deadline"] + ANSWERED_S:
            return False
        try:
            await self._jobs.store.bury([job], "deleted", self._clock.now())
        except sqlite3.Error as error:  # then it is drawn: better than a row that nobody knows
            log.error("a late job was not taken back: %s", error, extra={"job_id": job.job_id})
            return False
        return True

    def room(self, owner: str) -> int:
        """Jobs for which there is a place in line now. Each owner has a share of its own, `max_pending`
        divided by the owners that wait, which the others cannot take away. So the line may become somewhat
        longer than `max_pending`."""
        free = self.max_pending - self._dispatcher.waiting() - self._arriving.total()
        owners = self._lines.owners
        own = owners[owner] + self._arriving[owner]
        share = -(-self.max_pending // len(owners.keys() | self._arriving.keys() | {owner}))
        return max(0, free, share - own)

    async def _over_quota(self, job: Job, quota: Allowance) -> OverQuota | None:
        """Why the job is too much for its owner. None: it is not. Raises sqlite3.Error."""
        over = await self.quotas.why_not(job.owner, quota, [job.summary])
        if over is None and self.places(job.owner, quota) < 1:
            over = self.quotas.too_many(job.owner, quota, 1)
        return over

    def places(self, owner: str, quota: Allowance) -> float:
        """Jobs of the owner that may still join the line, by this quota."""
        return self.quotas.places(owner, quota, self._arriving[owner])

    @contextlib.contextmanager
    def arriving(self, owner: str, orders: Sequence[Summary]) -> Generator[None]:
        """These are on their way to the disk: they have their places in line already, and their seconds."""
        self._arriving[owner] += len(orders)
        try:
            with self.quotas.counting(owner, orders):
                yield
        finally:
            self._arriving[owner] -= len(orders)
            if not self._arriving[owner]:
                del self._arriving[owner]

    def join(self, job: Job | LiveJob) -> None:
        """A stored job joins the line, and its deadline counts."""
        pool = self.pools.home(job.pool, job.model)
        self._dispatcher.enqueue(
            Entry(job.place, job.job_id, job.owner, job.client, job.work, pool, job.model)
        )
        if job.deadline is not None:
            self._deadlines.set(job.job_id, job.deadline - self._clock.now())

    def _accept(self, job: Job) -> SubmitReply:
        job = self._jobs.remember(job)
        self.join(job)
        self._metrics.submitted()
        self._dispatcher.observe_depth()
        view = self._bulletin.view(job)
        self._estimates.promised(view)
        return SubmitReply(job=view, replayed=False)

    async def _replay(self, job_id: str, order: Submission) -> SubmitReply:
        """The job that stands for the order, by its id or its idempotency key."""
        stands = await self._jobs.find(job_id)
        if stands is None:
            return refusal("deleted", "This order was taken, and the job was deleted since.")
        return SubmitReply(job=self._estimates.view(stands), replayed=job_id != order["job_id"])

    def _new_job(self, order: Submission) -> Job:
        number = self._clock.number()
        created_at = number / 1e6
        cancel_after = order.get("cancel_after_s")
        return Job(
            order["job_id"],
            order["owner"],
            order["params"],
            self.pools.routed(order["summary"]),
            order["labels"],
            created_at,
            number,
            deadline=None if cancel_after is None else created_at + cancel_after,
        )

    def _full(self) -> SubmitReply:
        detail = f"{self._dispatcher.waiting()} jobs wait already."
        return refusal("queue_full", detail, retry_after=self.wait_for_places(10))

    def wait_for_places(self, places: int) -> float:
        """Seconds until so many jobs have left the line, as a guess: between a second and a minute."""
        wait = self._estimates.seconds_per_place() * places
        return min(60.0, max(1.0, wait))


def over_refusal(over: OverQuota) -> SubmitReply:
    reply = SubmitReply(error=over.error)
    if over.retry_after is not None:
        reply["retry_after"] = over.retry_after
    return reply


def too_late() -> SubmitReply:
    return refusal("too_late", "The registry was busy; submit again.", retry_after=1)


def refusal(code: str, detail: str, *, retry_after: float | None = None) -> SubmitReply:
    """`retry_after`: seconds; None: the same order will never be taken."""
    error = JobError(code=code, title=detail, detail=detail, retryable=retry_after is not None)
    reply = SubmitReply(error=error)
    if retry_after is not None:
        reply["retry_after"] = retry_after
    return reply
