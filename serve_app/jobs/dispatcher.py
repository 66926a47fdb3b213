"""Dispatcher: launches who is next, knows when nothing may be launched, and what the end of an attempt
means.

Knows nothing of Ray: `launcher` runs an attempt; `line` says who is next. Life of an attempt: fence + 1
committed, launched, ended; then its fence is dropped, and only then may the next one of the same job
start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from serve_app.jobs.background import Background
from serve_app.jobs.job import Job, Status
from serve_app.jobs.line import Entry, Line
from serve_app.jobs.repository import Record
from serve_app.messages import JobError, LaunchOrder, Outcome
from serve_app.metrics import JobMetrics

log = logging.getLogger("assets.registry")

ABSENT_AFTER_S = 5.0
"""No ingress has watched for so long: there is no application, so nothing is launched."""
LONGEST_BACKOFF_S = 15.0
CANCEL_GRACE_S = 2.0
"""An engine ends a dropped attempt within a step; a task that waits for an engine is ended by force."""


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

    def kill(self, job_id: str) -> None:
        """End the task of this job, wherever it hangs; `run` raises TaskLost then."""
        ...

    def show(self, job_id: str) -> Coroutine[Any, Any, None]:
        """Whoever draws this job now sends previews."""
        ...


class Dispatcher:
    """The attempts in flight, and when there may be more. `end` publishes a job's terminal state;
    `tidy` removes what attempts at an ended job have left."""

    def __init__(
        self,
        record: Record,
        line: Line,
        launcher: Launcher,
        metrics: JobMetrics,
        background: Background,
        *,
        epoch: int,
        end: Callable[[Job], Awaitable[bool]],
        tidy: Callable[[Job], Coroutine[Any, Any, None]],
    ) -> None:
        self._record, self._line, self._launcher = record, line, launcher
        self._metrics, self._background = metrics, background
        self._epoch, self._end, self._tidy = epoch, end, tidy
        self.max_in_flight = self.max_attempts = 1
        self.shown: set[str] = set()  # jobs whose previews somebody watches
        self._later: dict[str, asyncio.TimerHandle] = {}  # jobs that wait for their backoff
        self._losses: dict[str, int] = {}  # job id -> attempts lost in a row, for the backoff
        self._wake = asyncio.Event()
        self._paused: str | None = None
        self._pauses = 0  # in a row, for the backoff
        self._watched_at = float("-inf")  # monotonic seconds
        self._loading_at: float | None = None  # a renderer said that it loads its model
        self._draining = False

    # ---- who is next ----

    async def run(self) -> None:
        """For ever: launch whatever may be launched."""
        while True:
            self._wake.clear()
            while self.why_paused() is None and len(self._record.in_flight) < self.max_in_flight:
                if (entry := self._line.pop()) is None:
                    break
                self._record.in_flight[entry.job_id] = 0  # no attempt is committed yet
                self._background.spawn(self._drive(entry))
            await self._wake.wait()

    def enqueue(self, entry: Entry) -> None:
        if entry.job_id not in self._record.in_flight:
            self._line.add(entry)
            self._wake.set()

    def waiting(self) -> int:
        """Jobs that have neither ended nor an attempt."""
        return len(self._line) + len(self._later)

    def observe_depth(self) -> None:
        self._metrics.depth(self.waiting(), len(self._record.in_flight))

    def sizes(self) -> dict[str, int]:
        sizes = {"in_flight": self._record.in_flight, "losses": self._losses, "later": self._later}
        return {name: len(held) for name, held in sizes.items()} | {"shown": len(self.shown)}

    # ---- when nothing is launched ----

    def why_paused(self) -> str | None:
        if self._absent():
            return "application"
        return "draining" if self._draining else self._paused

    def watched(self) -> None:
        """An ingress was heard: there is an application."""
        absent, self._watched_at = self._absent(), time.monotonic()
        if absent:
            self._wake.set()

    def resume(self) -> None:
        """Something changed for the better (an ingress was heard again, a pause is over)."""
        self._paused = None
        self._wake.set()
        self._record.ledger.notify()

    def deployed(self) -> None:
        """An ingress came up that keeps this registry. If another one had it drained, to replace it, that
        one did not go through with it."""
        self._draining = False
        self.resume()

    def went_well(self) -> None:
        """A job ended as it should: the next pause is a short one again."""
        self._pauses = 0

    def loading(self) -> None:
        """A renderer has a process and a device, and loads its model."""
        self._loading_at = time.monotonic()
        for job in list(self._record.ledger.running.values()):
            if job.waiting_for == "replica":
                self._record.touch(job.evolve(waiting_for="model"))

    def admitted(self, job_id: str) -> None:
        """A renderer has it. If somebody began to watch after it was launched, the renderer knows now."""
        self._loading_at = None
        if job_id in self.shown:
            self._background.spawn(self._launcher.show(job_id))

    async def drain(self, timeout_s: float) -> bool:
        """Launch nothing more and wait for what runs. True if nothing runs any more."""
        self._draining = True
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
        delay = _backoff(0.25, self._pauses)
        self._pauses += 1
        asyncio.get_running_loop().call_later(delay, self.resume)

    # ---- when nobody wants it any more ----

    def stop(self, job: Job) -> None:
        """It was revoked: it leaves the line, and its attempt comes to an end."""
        self._line.remove(job.job_id)
        if (timer := self._later.pop(job.job_id, None)) is not None:
            timer.cancel()
        self._losses.pop(job.job_id, None)
        self.shown.discard(job.job_id)
        if self._record.in_flight.get(job.job_id):
            self._background.spawn(self._stop_attempt(job))

    async def _stop_attempt(self, job: Job) -> None:
        await self._launcher.drop(self._epoch, {job.job_id: job.fence})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_GRACE_S):
                while self._record.in_flight.get(job.job_id) == job.fence:
                    await self._record.ledger.change()
        if self._record.in_flight.get(job.job_id) == job.fence:
            self._launcher.kill(job.job_id)
            await self._launcher.drop(self._epoch, {job.job_id: job.fence})

    async def show(self, job_id: str) -> None:
        """Somebody watches how it is drawn."""
        lives = job_id in self._line or job_id in self._later or job_id in self._record.in_flight
        if lives and job_id not in self.shown:
            self.shown.add(job_id)
            if self._record.in_flight.get(job_id):
                await self._launcher.show(job_id)

    # ---- one attempt ----

    async def _drive(self, entry: Entry) -> None:
        """One attempt of one job: commit its fence, launch, wait, settle."""
        record, job_id = self._record, entry.job_id
        known: Job | None = None
        job: Job | None = None
        over = False
        try:
            job = known = await record.find(job_id)
            if job is not None and not job.status.terminal:  # else it was revoked on its way here
                await self._run(job)
                job = await record.find(job_id)
            over = job is None or job.status.terminal
        except sqlite3.Error as error:
            log.error("not stored: %s", error, extra={"job_id": job_id})
            self._pause("storage")
        finally:
            attempted = record.in_flight.pop(job_id, 0)
            record.ledger.rest(job_id)
            if over:
                self._losses.pop(job_id, None)
                self.shown.discard(job_id)
                if attempted and known and (job is None or job.status is not Status.SUCCESS):
                    self._background.spawn(self._tidy(known.evolve(fence=attempted)))
            else:
                self._retry_later(entry)
            self.observe_depth()
            record.ledger.notify()
            self._wake.set()

    async def _run(self, job: Job) -> None:
        record, job_id = self._record, job.job_id
        fence = record.in_flight[job_id] = job.fence + 1
        waiting_for = "replica" if self._loading_at is None else "model"
        begun = job.evolve(fence=fence, waiting_for=waiting_for)
        if not await record.save(begun, job.fence):
            return
        outcome = await self._attempt(begun)
        if record.held_by(job_id, fence) is None:
            return  # the registry has its end
        # Nobody waits for this attempt any more; only then may the next one start.
        await self._launcher.drop(self._epoch, {job_id: fence})
        if (held := record.held_by(job_id, fence)) is not None:
            await self._settle(held, outcome)

    async def _attempt(self, job: Job) -> Outcome:
        order = LaunchOrder(
            job_id=job.job_id,
            params=job.params,
            created_at=job.created_at,
            epoch=self._epoch,
            fence=job.fence,
            alone=job.alone,
            priority=job.priority,
            preview=job.job_id in self.shown,
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
        if kind != "stopped":
            self._losses[job.job_id] = self._losses.get(job.job_id, 0) + 1
        again = job.evolve(
            status=Status.RETRY,
            started_at=None,
            progress=None,
            preview=None,
            waiting_for=None,
            attempts=attempts,
            alone=job.alone or kind == "died",
        )
        await self._record.save(again, job.fence)

    def _retry_later(self, entry: Entry) -> None:
        losses = self._losses.get(entry.job_id, 0)
        if losses <= 1:
            self._again(entry)
            return
        delay = _backoff(0.5, losses)
        loop = asyncio.get_running_loop()
        self._later[entry.job_id] = loop.call_later(delay, self._again, entry)

    def _again(self, entry: Entry) -> None:
        self._later.pop(entry.job_id, None)
        self._line.put_back(entry)
        self._wake.set()


def _backoff(first_s: float, times: int) -> float:
    """Seconds; doubled each time. A night of it must not overflow."""
    return min(LONGEST_BACKOFF_S, first_s * 2 ** min(times, 10))


def _poisonous(attempts: int) -> JobError:
    return JobError(
        code="renderer_died",
        title="The renderer died while it drew this",
        detail=f"It died {attempts} times, the last time with nothing else to draw.",
        retryable=True,
    )
