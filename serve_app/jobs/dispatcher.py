"""Dispatcher: who is launched next, when nothing is, and what the end of an attempt means.

Knows nothing of Ray: `launcher` runs an attempt. Life of an attempt: fence + 1 committed, launched,
ended; then its fence is dropped, and only then may the next one of the same job start.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from serve_app.jobs.background import Background
from serve_app.jobs.job import Job, Status
from serve_app.jobs.record import Record
from serve_app.messages import JobError, LaunchOrder, Outcome
from serve_app.metrics import JobMetrics

log = logging.getLogger("assets.registry")

ABSENT_AFTER_S = 5.0
"""No ingress has watched for so long: there is no application, so nothing is launched."""
LONGEST_BACKOFF_S = 15.0


class TaskLost(Exception):
    """The process that ran an attempt is gone, and nothing is known of its end."""


class Launcher(Protocol):
    """Runs attempts and stops them. The Ray one is in `serve_app/cluster.py`."""

    async def run(self, order: LaunchOrder) -> Outcome:
        """One attempt, to its end. Raises TaskLost."""
        ...

    async def drop(self, epoch: int, fences: dict[str, int]) -> None:
        """No engine works any more for older epochs, nor for these jobs up to these fences."""
        ...


class Dispatcher:
    """A heap of waiting jobs and the attempts in flight. `end` publishes a job's terminal state."""

    def __init__(
        self,
        record: Record,
        launcher: Launcher,
        metrics: JobMetrics,
        background: Background,
        *,
        epoch: int,
        end: Callable[[Job], Awaitable[bool]],
    ) -> None:
        self._record, self._launcher, self._metrics = record, launcher, metrics
        self._background, self._epoch, self._end = background, epoch, end
        self.max_in_flight = self.max_attempts = 1
        self._line: list[tuple[int, str]] = []  # heap: jobs that wait to be launched
        self._losses: dict[str, int] = {}  # job id -> tasks lost in a row, for the backoff
        self._wake = asyncio.Event()
        self._paused: str | None = None
        self._pauses = 0  # in a row, for the backoff
        self._watched_at = float("-inf")  # monotonic seconds
        self._draining = False

    # ---- who is next ----

    async def run(self) -> None:
        """Launch whatever may be launched, until drained."""
        while True:
            self._wake.clear()
            if self._draining:
                return
            while self._line and self.why_paused() is None and self._has_room():
                _, job_id = heapq.heappop(self._line)
                job = self._record.ledger.live.get(job_id)
                if job is None or job_id in self._record.in_flight:
                    continue  # it ended, or was taken up, while it stood in line
                self._record.in_flight[job_id] = job.fence + 1
                self._background.spawn(self._drive(job))
            await self._wake.wait()

    def enqueue(self, job: Job) -> None:
        heapq.heappush(self._line, (job.order, job.job_id))
        self._wake.set()

    def _has_room(self) -> bool:
        return len(self._record.in_flight) < self.max_in_flight

    def sizes(self) -> dict[str, int]:
        return {"in_flight": len(self._record.in_flight), "losses": len(self._losses)}

    # ---- when nothing is launched ----

    def why_paused(self) -> str | None:
        return "application" if self._absent() else self._paused

    def watched(self) -> None:
        """An ingress was heard: there is an application."""
        absent, self._watched_at = self._absent(), time.monotonic()
        if absent:
            self._wake.set()

    def resume(self) -> None:
        """Something changed for the better (an ingress came up, a pause is over): launch again."""
        if not self._draining:
            self._paused = None
            self._wake.set()
            self._record.ledger.notify()

    def went_well(self) -> None:
        """A job ended as it should: the next pause is a short one again."""
        self._pauses = 0

    async def drain(self, timeout_s: float) -> bool:
        """Launch nothing more and wait for what runs. True if nothing runs any more."""
        self._draining, self._paused = True, "draining"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._record.in_flight:
                    await self._record.ledger.change()
        return not self._record.in_flight

    def _absent(self) -> bool:
        return time.monotonic() - self._watched_at > ABSENT_AFTER_S

    def _pause(self, reason: str) -> None:
        """Stop launching for a while; longer each time in a row."""
        if self._paused is not None:
            return
        self._paused = reason
        delay = min(LONGEST_BACKOFF_S, 0.25 * 2**self._pauses)
        self._pauses += 1
        asyncio.get_running_loop().call_later(delay, self.resume)

    # ---- one attempt ----

    async def _drive(self, job: Job) -> None:
        """One attempt of one job: commit its fence, launch, wait, settle."""
        fence = job.fence + 1
        live = self._record.ledger.live
        try:
            begun = job.evolve(fence=fence, waiting_for="renderer")
            if await self._record.save(begun, job.fence):
                outcome = await self._attempt(live[job.job_id])
                if self._record.held_by(job.job_id, fence) is not None:
                    # Nobody waits for this attempt any more; only then may the next one start.
                    await self._launcher.drop(self._epoch, {job.job_id: fence})
                    await self._settle(live[job.job_id], outcome)
        except sqlite3.Error as error:
            log.error("not stored: %s", error, extra={"job_id": job.job_id})
            self._pause("storage")
        finally:
            self._record.in_flight.pop(job.job_id, None)
            if job.job_id in live:
                self._retry_later(live[job.job_id])
            else:
                self._losses.pop(job.job_id, None)
            self._record.ledger.notify()
            self._wake.set()

    async def _attempt(self, job: Job) -> Outcome:
        order = LaunchOrder(
            job_id=job.job_id,
            params=job.params,
            created_at=job.created_at,
            epoch=self._epoch,
            fence=job.fence,
            alone=job.alone,
        )
        try:
            return await self._launcher.run(order)
        except TaskLost as error:
            return Outcome(kind="lost", reason=str(error))

    async def _settle(self, job: Job, outcome: Outcome) -> None:
        """Say what the end of an attempt means for a job that it did not end."""
        kind = outcome["kind"]
        log.warning(
            "attempt %d %s: %s", job.fence, kind, outcome["reason"], extra={"job_id": job.job_id}
        )
        if kind == "released":
            await self._record.save(job.evolve(waiting_for=None), job.fence)
            self._pause("renderer")
            return
        self._metrics.retried(kind)
        attempts = job.attempts + (kind == "died")
        if attempts >= self.max_attempts:
            await self._end(
                job.evolve(status=Status.FAILURE, error=_poisonous(attempts), attempts=attempts)
            )
            return
        if kind in ("lost", "settled"):
            self._losses[job.job_id] = self._losses.get(job.job_id, 0) + 1
        again = job.evolve(
            status=Status.RETRY,
            started_at=None,
            progress=None,
            waiting_for=None,
            attempts=attempts,
            alone=job.alone or kind == "died",
        )
        await self._record.save(again, job.fence)

    def _retry_later(self, job: Job) -> None:
        losses = self._losses.get(job.job_id, 0)
        if losses <= 1:
            self.enqueue(job)
        else:
            delay = min(LONGEST_BACKOFF_S, 0.5 * 2**losses)
            asyncio.get_running_loop().call_later(delay, self.enqueue, job)


def _poisonous(attempts: int) -> JobError:
    return JobError(
        code="renderer_died",
        title="The renderer died while it drew this",
        detail=f"It died {attempts} times, the last time with nothing else to draw.",
        retryable=True,
    )
