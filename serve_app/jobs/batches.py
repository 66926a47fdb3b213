"""Batches: many orders accepted together, whole or not at all, and what becomes of them.

Knows how a batch joins the line, is shown, cancelled and ordered again. Its counts are the store's, which
keeps them with every change of a job; so nothing of a batch is held in memory. Knows nothing of files that
batches come from, nor of what an order asks for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from serve_app.jobs.background import Background
from serve_app.jobs.cache import JobCache
from serve_app.jobs.clock import Clock
from serve_app.jobs.endings import CANCELLED, Endings
from serve_app.jobs.estimates import Estimates
from serve_app.jobs.intake import ANSWERED_S, Intake, over_refusal, refusal, too_late
from serve_app.jobs.job import Job
from serve_app.jobs.quotas import OverQuota
from serve_app.jobs.store.batches import LOST
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.jobs.store.stored_batch import InsertedBatch, NewRow, StoredBatch
from serve_app.messages import (
    Allowance,
    BatchFilter,
    BatchPage,
    BatchPlan,
    BatchReply,
    BatchRetry,
    BatchRow,
    BatchRowView,
    BatchSubmission,
    BatchView,
    FailedRow,
    SubmitReply,
    Summary,
    Tombstone,
)
from serve_app.metrics import JobMetrics
from serve_app.params import DEFAULT_POOL

log = logging.getLogger("assets.registry")

FAILED_SHOWN = 100
"""Failed rows that a look at a batch tells of."""
AT_ONCE = 256
"""Jobs that end, or join the line, before others have a turn."""


@dataclass
class Door:
    """Whether the jobs of a batch may come in, once it is known which are new. `room`, `places`: for how many
    the line and the owner's quota have room; `left`: for how many device seconds, of which each takes
    `seconds_of`. `over`: why the quota allows none of them."""

    owner: str
    quota: Allowance
    deadline: float
    over: OverQuota | None
    room: int
    places: float
    left: float
    seconds_of: Callable[[Summary], float]
    jobs: int | None = None  # that were refused; None: all came too late
    seconds: float = 0.0  # that they take

    def refused(self, jobs: Sequence[Job]) -> str | None:
        """Called by the writer's thread: why not, in a word."""
        if time.time() > self.deadline:
            return "too_late"
        if self.left < math.inf:
            self.seconds = sum(self.seconds_of(job.summary) for job in jobs)
        too_many = len(jobs) > min(self.room, self.places) or self.seconds > self.left
        if too_many or (jobs and self.over is not None):
            self.jobs = len(jobs)
            return "too_many"
        return None


class Batches:
    def __init__(
        self,
        store: SqliteStore,
        cache: JobCache,
        intake: Intake,
        endings: Endings,
        estimates: Estimates,
        metrics: JobMetrics,
        clock: Clock,
        background: Background,
    ) -> None:
        self._background = background
        self._store, self._cache, self._intake, self._endings = store, cache, intake, endings
        self._estimates, self._metrics, self._clock = estimates, metrics, clock

    # ---- ordering ----

    async def submit(self, order: BatchSubmission) -> BatchReply:
        owner, rows = order["owner"], order["rows"]
        cancel_after = order.get("cancel_after_s")
        new = [self._new(row, owner, cancel_after) for row in rows]
        try:
            door = await self._door(owner, order.get("quota", Allowance()), order["deadline"])
            with self._intake.arriving(owner, [row.job.summary for row in new]):
                stands = await self._store.batches.insert(
                    order["batch_id"],
                    owner,
                    order["name"],
                    new,
                    reuse=order["reuse"],
                    key=order.get("idempotency_key"),
                    body_hash=order.get("body_hash", ""),
                    key_expires_before=self._clock.now() - self._intake.idempotency_s,
                    hook=order.get("webhook"),
                    refused=door.refused,
                )
                if isinstance(stands, str):
                    return self._refused(door)
                return await self._taken(order, stands)
        except sqlite3.Error as error:
            log.error("batch not stored: %s", error)
            return _refusal(
                refusal("storage_failed", "The batch could not be stored.", retry_after=5)
            )

    async def known(self, owner: str, key: str, body_hash: str) -> BatchReply | None:
        """The batch that the owner ordered with this body under this key. None: there is none."""
        not_before = self._clock.now() - self._intake.idempotency_s
        batch_id = await self._store.batches.of_key(owner, key, body_hash, not_before)
        found = None if batch_id is None else await self._of(batch_id, owner)
        return None if found is None else BatchReply(batch=await self._view(found), replayed=True)

    async def _taken(self, order: BatchSubmission, stands: InsertedBatch) -> BatchReply:
        if not stands.same_body:
            reused = refusal("idempotency_key_reuse", "This key came with another body before.")
            return _refusal(reused)
        late = time.time() > order["deadline"] + ANSWERED_S
        if late and not stands.existed and not order.get("idempotency_key"):
            await self._store.batches.take_back(stands.batch_id, stands.fresh, self._clock.now())
            return _refusal(too_late())  # the client has been told that the order failed
        await self._join(stands.fresh)
        batch = await self._told(stands.batch_id, order["owner"])
        if batch is None or "gone" in batch:
            gone = "This order was taken, and the batch was deleted since."
            return _refusal(refusal("deleted", gone))
        replayed = stands.existed and stands.batch_id != order["batch_id"]
        return BatchReply(batch=batch, replayed=replayed)

    async def retry(self, again: BatchRetry) -> BatchReply:
        """Order rows again whose jobs ended without pictures. A row that was ordered again before stays."""
        batch = await self._of(again["batch_id"], again["owner"])
        if batch is None:
            return _refusal(refusal("deleted", "This batch was deleted."))
        new = [
            (entry["row"], entry["instead_of"], self._new(entry["order"], batch.owner, None))
            for entry in again["rows"]
        ]
        rows = [row for _, _, row in new]
        try:
            door = await self._door(batch.owner, again.get("quota", Allowance()), again["deadline"])
            with self._intake.arriving(batch.owner, [row.job.summary for row in rows]):
                jobs = await self._store.batches.order_again(batch.number, new, door.refused)
                if isinstance(jobs, str):
                    return self._refused(door)
                await self._join(jobs)
        except sqlite3.Error as error:
            log.error("batch not ordered again: %s", error)
            return _refusal(refusal("storage_failed", "It could not be stored.", retry_after=5))
        view = await self._told(again["batch_id"], again["owner"])
        assert view is not None
        assert "gone" not in view
        return BatchReply(batch=view)

    def _new(self, row: BatchRow, owner: str, cancel_after_s: float | None) -> NewRow:
        number = self._clock.number()
        created_at = number / 1e6
        deadline = None if cancel_after_s is None else created_at + cancel_after_s
        job = Job(
            row["job_id"],
            owner,
            {},  # they are in the row, as text: nobody needs them before the job's turn comes
            self._intake.pools.routed(row["summary"]),
            row["labels"],
            created_at,
            number,
            deadline=deadline,
        )
        return NewRow(job, row["params"], row["key"], row["name"])

    async def _join(self, jobs: Sequence[Job]) -> None:
        """Stored jobs join the line. They are read from their rows when their turn comes, as after a restart:
        10,000 of them at once would drive everything else out of memory."""
        for start in range(0, len(jobs), AT_ONCE):
            for job in jobs[start : start + AT_ONCE]:
                self._intake.join(job)
            await asyncio.sleep(0)
        if jobs:  # Ray's counters refuse to count nothing
            self._metrics.submitted(len(jobs))

    async def _door(self, owner: str, quota: Allowance, deadline: float) -> Door:
        """Raises sqlite3.Error."""
        intake, quotas = self._intake, self._intake.quotas
        over, left = None, math.inf
        if quota:
            over = await quotas.why_not(owner, quota, ())
            left = await quotas.seconds_left(owner, quota)
        room, places = intake.room(owner), intake.places(owner, quota)
        return Door(owner, quota, deadline, over, room, places, left, quotas.seconds_of)

    def _refused(self, door: Door) -> BatchReply:
        if (jobs := door.jobs) is None:
            return _refusal(too_late())
        if door.over is not None:
            return _refusal(over_refusal(door.over))
        if jobs > door.places:
            return _refusal(
                over_refusal(self._intake.quotas.too_many(door.owner, door.quota, jobs))
            )
        if door.seconds > door.left:
            return _refusal(
                over_refusal(self._intake.quotas.too_long(door.quota, door.seconds, door.left))
            )
        detail = f"This makes {jobs} jobs, and {door.room} more of yours may wait now."
        wait = self._intake.wait_for_places(jobs - door.room)
        return _refusal(refusal("queue_full", detail, retry_after=wait))

    # ---- looking ----

    async def plan(
        self, owner: str, name: str, keys: Sequence[bytes], loads: Mapping[str, tuple[int, float]]
    ) -> BatchPlan:
        """What a batch of rows with these keys would do, if it were submitted now. `loads`: by model, its
        rows and their work in megapixel steps. An empty `name`: nothing is reused."""
        reused, count = await self._store.batches.plan(owner, name, keys) if name else ([], 0)
        share = (len(keys) - count) / len(keys)
        pools: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for model, (rows, work) in loads.items():
            of_pool = pools[self._intake.pools.home(DEFAULT_POOL, model)]
            of_pool[0] += rows * share
            of_pool[1] += work * share
        # Pools draw beside each other, so the slowest one says when all is done.
        times = [
            self._estimates.of_many(work, max(1, round(jobs)), owner, pool)
            for pool, (jobs, work) in pools.items()
        ]
        known = [time for time in times if time is not None]
        seconds = max(known) if known and len(known) == len(times) else None
        if not share:
            seconds = 0.0
        return BatchPlan(reused_rows=reused, room=self._intake.room(owner), seconds=seconds)

    async def look(self, batch_id: str, owner: str) -> BatchView | Tombstone | None:
        """None: this owner has no such batch."""
        batch = await self._of(batch_id, owner)
        if batch is not None:
            return await self._view(batch)
        stone = await self._store.tombstone(batch_id)
        return stone if stone is not None and stone["owner"] == owner else None

    async def _told(self, batch_id: str, owner: str) -> BatchView | Tombstone | None:
        """As `look`; and whoever watches this owner's jobs is told of the batch. Its waiting jobs are no
        change of theirs, and may be 10,000."""
        batch = await self.look(batch_id, owner)
        if batch is not None and "gone" not in batch:
            self._cache.announce(batch)
        return batch

    async def page(
        self, owner: str, wanted: BatchFilter, limit: int, before: int | None, after: int | None
    ) -> BatchPage:
        found = await self._store.batches.page(
            owner, wanted, limit=limit, before=before, after=after
        )
        views = [await self._view(batch) for batch in found.batches]
        if after is None:
            newest = found.batches[0].number if found.batches else before and before - 1
            return BatchPage(batches=views, older=found.more, newer=newest if before else None)
        oldest = found.batches[-1].number if found.batches else after + 1
        return BatchPage(batches=views, older=oldest, newer=found.more)

    async def rows(
        self, batch_id: str, owner: str, after: int, limit: int, lost: bool
    ) -> list[BatchRowView]:
        """Rows after this one. `lost`: only those whose jobs ended without pictures."""
        batch = await self._of(batch_id, owner)
        if batch is None:
            return []
        statuses = LOST if lost else ()
        found = await self._store.batches.rows(batch.number, after, limit, statuses)
        return [
            BatchRowView(
                row=entry.row,
                name=entry.name,
                key=entry.key,
                reused=entry.reused,
                status=entry.status,
                job=entry.job and self._estimates.view(self._cache.newest(entry.job)),
            )
            for entry in found
        ]

    async def _of(self, batch_id: str, owner: str) -> StoredBatch | None:
        batch = await self._store.batches.get(batch_id)
        return batch if batch is not None and batch.owner == owner else None

    async def _view(self, batch: StoredBatch) -> BatchView:
        failed: list[FailedRow] = []
        if batch.counts["FAILURE"]:
            rows = await self._store.batches.rows(batch.number, 0, FAILED_SHOWN, ["FAILURE"])
            failed = [
                FailedRow(row=entry.row, job_id=entry.job.job_id, error=entry.job.error)
                for entry in rows
                if entry.job is not None and entry.job.error is not None
            ]
        return BatchView(
            batch_id=batch.batch_id,
            owner=batch.owner,
            name=batch.name,
            number=batch.number,
            status=batch.status,
            rev=f"{batch.number}.{batch.changes}",
            created_at=batch.created_at,
            completed_at=batch.completed_at,
            size=batch.size,
            counts=batch.counts,
            reused=batch.reused,
            reused_rows=batch.reused_rows,
            failed=failed,
            eta_seconds=await self._eta(batch),
        )

    async def _eta(self, batch: StoredBatch) -> float | None:
        """Until its last job is done; None: unknown, or all are done."""
        if batch.completed_at is not None:
            return None
        last = await self._store.batches.last_live(batch.number)
        views = [self._estimates.view(self._cache.newest(job)) for job in last]
        etas = [view["eta_seconds"] for view in views]
        known = [eta for eta in etas if eta is not None]
        return max(known) if known and len(known) == len(etas) else None

    # ---- ending ----

    async def _let_go(self, revoked: Mapping[str, int]) -> dict[str, int]:
        """Take jobs out of line that are in no memory but there; returns them. Their rows say that they have
        ended, and so does whoever is asked."""
        waited: dict[str, int] = {}
        for i, (job_id, number) in enumerate(revoked.items()):
            if i % AT_ONCE == 0:
                await asyncio.sleep(0)
            if self._cache.get(job_id) is None and self._endings.leave_line(job_id):
                waited[job_id] = number
        return waited

    async def _end(self, numbers: Sequence[int]) -> None:
        """Stop the work of these jobs, whose rows say that they are revoked, and tell whoever watches."""
        for start in range(0, len(numbers), AT_ONCE):
            jobs = await self._store.numbered(numbers[start : start + AT_ONCE])
            await self._endings.were_revoked(jobs)

    async def cancel(self, batch_id: str, owner: str) -> BatchView | Tombstone | None:
        """Revoke every job that only this batch waits for, all of them or none. One that another batch stands
        for too goes on there, and its row ends here all the same. Jobs that only waited are told of a moment
        later, a few at a time: 10,000 changes take a second."""
        batch = await self._of(batch_id, owner)
        if batch is None:
            return await self.look(batch_id, owner)
        revoked = await self._store.batches.revoke(batch.number, self._clock.now(), CANCELLED)
        waited = await self._let_go(revoked)
        held = [number for job_id, number in revoked.items() if job_id not in waited]
        await self._end(held)
        self._background.spawn(self._end([*waited.values()]))
        return await self._told(batch_id, owner)


def _refusal(reply: SubmitReply) -> BatchReply:
    assert "error" in reply
    refused = BatchReply(error=reply["error"])
    if "retry_after" in reply:
        refused["retry_after"] = reply["retry_after"]
    return refused
