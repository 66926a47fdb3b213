"""JobRegistry: the only writer of job state. It stores, launches, settles, and tells who watches.

Knows nothing of Ray, HTTP or torch: `launcher` runs an attempt, `store` keeps rows, `output` keeps
files. Life of a job: submit (committed, then answered) -> dispatch loop (fence + 1 committed, then
launched) -> admitted -> finish or fail, both checked against the fence -> watchers hear of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import logging
import sqlite3
import time
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol

from serve_app.jobs.job import Job, Status
from serve_app.jobs.ledger import Ledger
from serve_app.jobs.store import SqliteStore
from serve_app.messages import (
    ImageFile,
    JobError,
    JobView,
    LaunchOrder,
    Outcome,
    SubmitOrder,
    SubmitReply,
    WatchReply,
)
from serve_app.metrics import JobMetrics

log = logging.getLogger("assets.registry")

ABSENT_AFTER_S = 5.0
"""No ingress has watched for so long: there is no application, so nothing is launched."""
LONGEST_BACKOFF_S = 15.0


class TaskLost(Exception):
    """The process that ran an attempt is gone, and nothing is known of its end."""


class Launcher(Protocol):
    """Runs attempts and stops them. The Ray one is in `serve_app/app.py`."""

    async def run(self, order: LaunchOrder) -> Outcome:
        """One attempt, to its end. Raises TaskLost."""
        ...

    async def drop(self, epoch: int, fences: dict[str, int]) -> None:
        """No engine works any more for older epochs, nor for these jobs up to these fences."""
        ...


class Output(Protocol):
    """The part of `artifacts.OutputDir` that cleaning up needs. Paths are relative to it."""

    def files_of(self, job_id: str) -> list[str]: ...

    def stored(self) -> Iterable[tuple[str, str]]:
        """(path, job id) of every file there that an attempt wrote, temporary ones too."""
        ...

    def remove(self, paths: Iterable[str]) -> int: ...


class JobRegistry:
    """Call `start` first. Every method may be called again with the same arguments: the transport
    repeats calls whose answer was lost."""

    def __init__(
        self,
        store: SqliteStore,
        launcher: Launcher,
        output: Output,
        metrics: JobMetrics,
        *,
        max_in_flight: int,
        max_pending: int,
        max_attempts: int,
        slots: int,
        cached_jobs: int,
        idempotency_s: float,
    ) -> None:
        self._store, self._launcher, self._output, self._metrics = store, launcher, output, metrics
        self.epoch = store.epoch
        self._ledger = Ledger(cached_jobs)
        self.configure(max_in_flight, max_pending, max_attempts, slots, cached_jobs, idempotency_s)
        self._line: list[tuple[int, str]] = []  # heap: jobs that wait to be launched
        self._in_flight: dict[str, int] = {}  # job id -> fence
        self._losses: dict[str, int] = {}  # job id -> tasks lost in a row, for the backoff
        self._born_at = time.time()
        self._order = 0
        self._arriving = 0  # submits on their way to the disk
        self._wake = asyncio.Event()
        self._paused: str | None = None
        self._pauses = 0  # in a row, for the backoff
        self._watched_at = float("-inf")  # monotonic seconds
        self._draining = False
        self._seconds_per_job: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def configure(
        self,
        max_in_flight: int,
        max_pending: int,
        max_attempts: int,
        slots: int,
        cached_jobs: int,
        idempotency_s: float,
    ) -> None:
        """New limits, from the newest deployed settings."""
        self._max_in_flight, self._max_pending = max_in_flight, max_pending
        self._max_attempts, self._slots = max_attempts, slots
        self._ledger.cached_jobs, self._idempotency_s = cached_jobs, idempotency_s

    # ---- life ----

    async def start(self) -> None:
        """Take up what an earlier life left: its jobs wait again, at no attempt."""
        self._order = await self._store.last_in_line()
        for job in await self._store.recent(self._ledger.cached_jobs):
            self._ledger.hold(job)
        for job in await self._store.live():
            if job.status is Status.STARTED:
                job = job.evolve(status=Status.RETRY, started_at=None)
            self._ledger.hold(job)
            self._enqueue(job)
        self._spawn(self._launcher.drop(self.epoch, {}))  # nobody owns what older epochs started
        self._spawn(self._dispatch())
        self._spawn(self._sweep())

    async def drain(self, timeout_s: float) -> bool:
        """Launch nothing more and wait for what runs. True if nothing runs any more."""
        self._draining, self._paused = True, "draining"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._in_flight:
                    await self._ledger.change()
        return not self._in_flight

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.close()

    # ---- for the ingress ----

    async def submit(self, order: SubmitOrder) -> SubmitReply:
        """Committed before it is answered. Refused: too late, or the line is full."""
        known = self._ledger.get(order["job_id"])
        if known is not None:
            return SubmitReply(job=known.view(self.epoch), replayed=False)
        now = time.time()
        if now > order["deadline"]:
            return _refused("too_late", "The registry was busy; submit again.", retry_after=1)
        self._order += 1
        job = Job(order["job_id"], order["owner"], order["params"], now, self._order)
        full = self._waiting() + self._arriving >= self._max_pending
        self._arriving += 1
        try:
            inserted = await self._store.insert(
                job,
                key=order.get("idempotency_key"),
                body_hash=order.get("body_hash", ""),
                key_expires_before=now - self._idempotency_s,
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
            view = await self.get(inserted.job_id)
            assert view is not None
            return SubmitReply(job=view, replayed=inserted.job_id != order["job_id"])
        job = self._touch(job)
        self._enqueue(job)
        self._metrics.submitted()
        return SubmitReply(job=job.view(self.epoch), replayed=False)

    async def get(self, job_id: str) -> JobView | None:
        job = self._ledger.get(job_id)
        if job is None:
            job = await self._store.get(job_id)
        return None if job is None else job.view(self.epoch)

    async def watch(self, epoch: int, seq: int, timeout_s: float) -> WatchReply:
        """What changed after (epoch, seq); waits up to `timeout_s` for something to change. That
        somebody watches is also how the registry knows that there is an application."""
        absent = self._absent()
        self._watched_at = time.monotonic()
        if absent:
            self._wake.set()
        resync = epoch != self.epoch or self._ledger.lost_track(seq)
        if seq >= self._ledger.seq and not resync:
            await self._ledger.change(timeout_s)
        if resync:
            jobs, upto = list(self._ledger.live.values()), self._ledger.seq
        else:
            jobs, upto = self._ledger.after(seq)
        return WatchReply(
            epoch=self.epoch,
            seq=upto,
            resync=resync,
            jobs=[job.view(self.epoch) for job in jobs],
            seconds_per_job=self._seconds_per_job,
            slots=self._slots,
            now=time.time(),
            paused=self._why_paused(),
        )

    def dropped(self) -> dict[str, int]:
        """What a new renderer must not work on, whoever asks: job id -> highest dead fence."""
        running = {job_id: fence - 1 for job_id, fence in self._in_flight.items() if fence > 1}
        ended = {job.job_id: job.fence for job in self._ledger.finished.values() if job.fence > 1}
        return running | ended

    def stats(self) -> dict[str, Any]:
        """Sizes of everything held; the maps are empty when nothing lives."""
        return {
            "epoch": self.epoch,
            "live": len(self._ledger.live),
            "waiting": self._waiting(),
            "in_flight": len(self._in_flight),
            "cached": len(self._ledger.finished),
            "losses": len(self._losses),
            "changes": len(self._ledger),
            "paused": self._why_paused(),
        }

    # ---- for the attempt ----

    async def admitted(self, job_id: str, fence: int) -> bool:
        """A renderer starts to work on the attempt. False: it is superseded and must stop."""
        job = self._held_by(job_id, fence)
        if job is None:
            return False
        if job.status is not Status.STARTED:
            started = job.evolve(status=Status.STARTED, started_at=time.time(), progress=None)
            await self._save(started, fence)
        return self._held_by(job_id, fence) is not None

    async def progress(self, job_id: str, fence: int, progress: dict[str, Any]) -> bool:
        """Never stored. False: the attempt is superseded and must stop."""
        job = self._held_by(job_id, fence)
        if job is not None:
            self._touch(job.evolve(progress=progress))
        return job is not None

    async def finish(self, job_id: str, fence: int, images: list[ImageFile]) -> bool:
        """Publish. False: the attempt is superseded, and its files must go."""
        job = self._held_by(job_id, fence)
        if job is None:
            return await self._has_ended(job_id, fence, Status.SUCCESS)
        return await self._end(job.evolve(status=Status.SUCCESS, images=tuple(images)))

    async def fail(self, job_id: str, fence: int, error: JobError) -> bool:
        """The job failed for good. False: the attempt is superseded."""
        job = self._held_by(job_id, fence)
        if job is None:
            return await self._has_ended(job_id, fence, Status.FAILURE)
        return await self._end(job.evolve(status=Status.FAILURE, error=error))

    async def _has_ended(self, job_id: str, fence: int, status: Status) -> bool:
        """The call is a repeat of the one that ended the job."""
        job = self._ledger.finished.get(job_id) or await self._store.get(job_id)
        return job is not None and (job.fence, job.status) == (fence, status)

    async def _end(self, job: Job) -> bool:
        now = time.time()
        started_at = job.started_at or now
        ended = job.evolve(started_at=started_at, completed_at=now, progress=None, alone=False)
        if not await self._save(ended, job.fence):
            return False
        self._observe_end(ended)
        if job.fence > 1 or job.status is Status.FAILURE:
            await self._remove_losers(ended)
        return True

    # ---- dispatch ----

    async def _dispatch(self) -> None:
        while True:
            self._wake.clear()
            if self._draining:
                return
            while self._line and self._why_paused() is None and self._has_room():
                _, job_id = heapq.heappop(self._line)
                job = self._ledger.live.get(job_id)
                if job is None or job_id in self._in_flight:
                    continue  # it ended, or was taken up, while it stood in line
                self._in_flight[job_id] = job.fence + 1
                self._spawn(self._drive(job))
            await self._wake.wait()

    async def _drive(self, job: Job) -> None:
        """One attempt of one job: commit its fence, launch, wait, settle."""
        fence = job.fence + 1
        try:
            if await self._save(job.evolve(fence=fence, waiting_for="renderer"), job.fence):
                outcome = await self._attempt(self._ledger.live[job.job_id])
                if self._held_by(job.job_id, fence) is not None:
                    # Nobody waits for this attempt any more; only then may the next one start.
                    await self._launcher.drop(self.epoch, {job.job_id: fence})
                    await self._settle(self._ledger.live[job.job_id], outcome)
        except sqlite3.Error as error:
            log.error("not stored: %s", error, extra={"job_id": job.job_id})
            self._pause("storage")
        finally:
            self._in_flight.pop(job.job_id, None)
            if job.job_id in self._ledger.live:
                self._retry_later(self._ledger.live[job.job_id])
            else:
                self._losses.pop(job.job_id, None)
            self._ledger.notify()
            self._wake.set()

    async def _attempt(self, job: Job) -> Outcome | None:
        """None: the task was lost."""
        order = LaunchOrder(
            job_id=job.job_id,
            params=job.params,
            created_at=job.created_at,
            epoch=self.epoch,
            fence=job.fence,
            alone=job.alone,
        )
        try:
            return await self._launcher.run(order)
        except TaskLost as error:
            log.warning("attempt %d lost: %s", job.fence, error, extra={"job_id": job.job_id})
            return None

    async def _settle(self, job: Job, outcome: Outcome | None) -> None:
        """Say what the end of an attempt means for a job that it did not end."""
        kind = outcome["kind"] if outcome else "lost"
        if outcome:
            log.warning(
                "attempt %d %s: %s",
                job.fence,
                kind,
                outcome["reason"],
                extra={"job_id": job.job_id},
            )
        if kind == "released":
            await self._save(job.evolve(waiting_for=None), job.fence)
            self._pause("renderer")
            return
        self._metrics.retried(kind)
        attempts = job.attempts + (kind == "died")
        if attempts >= self._max_attempts:
            error = JobError(
                code="renderer_died",
                title="The renderer died while it drew this",
                detail=f"It died {attempts} times, the last time with nothing else to draw.",
                retryable=True,
            )
            await self._end(job.evolve(status=Status.FAILURE, error=error, attempts=attempts))
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
        await self._save(again, job.fence)

    def _retry_later(self, job: Job) -> None:
        losses = self._losses.get(job.job_id, 0)
        if losses <= 1:
            self._enqueue(job)
        else:
            delay = min(LONGEST_BACKOFF_S, 0.5 * 2**losses)
            asyncio.get_running_loop().call_later(delay, self._enqueue, job)

    def _enqueue(self, job: Job) -> None:
        heapq.heappush(self._line, (job.order, job.job_id))
        self._wake.set()

    def _why_paused(self) -> str | None:
        return "application" if self._absent() else self._paused

    def _has_room(self) -> bool:
        return len(self._in_flight) < self._max_in_flight

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

    def resume(self) -> None:
        """Something changed for the better (an ingress came up, a pause is over): launch again."""
        if not self._draining:
            self._paused = None
            self._wake.set()
            self._ledger.notify()

    # ---- state, kept in step: row, memory, watchers ----

    def _held_by(self, job_id: str, fence: int) -> Job | None:
        """The job, if this attempt is the one that is driven now."""
        job = self._ledger.live.get(job_id)
        owned = job is not None and job.fence == fence == self._in_flight.get(job_id)
        return job if owned else None

    async def _save(self, job: Job, expected_fence: int) -> bool:
        """Row first, then memory. False, and nothing changed, if the row has moved on."""
        if not await self._store.update(job, expected_fence=expected_fence):
            return False
        latest = self._ledger.live.get(job.job_id)
        if latest is not None and latest.fence <= job.fence:
            self._touch(job)
        return True

    def _touch(self, job: Job) -> Job:
        """Hold `job` as the newest truth and tell the watchers."""
        job = self._ledger.hold(job)
        self._metrics.depth(self._waiting(), len(self._in_flight))
        return job

    def _waiting(self) -> int:
        return len(self._ledger.live) - len(self._in_flight)

    def _observe_end(self, job: Job) -> None:
        assert job.started_at is not None
        assert job.completed_at is not None
        self._pauses = 0
        run = job.completed_at - job.started_at
        mean = self._seconds_per_job
        self._seconds_per_job = run if mean is None else 0.8 * mean + 0.2 * run
        self._metrics.finished(job.status.value, job.params.get("model", ""))
        self._metrics.times(queue_s=job.started_at - job.created_at, run_s=run)
        log.info("%s after %.2f s", job.status.value, run, extra={"job_id": job.job_id})

    def _full(self) -> SubmitReply:
        wait = (self._seconds_per_job or 1.0) * 10 / self._slots
        detail = f"{self._max_pending} jobs wait already."
        return _refused("queue_full", detail, retry_after=max(1.0, wait))

    # ---- files that nobody published ----

    async def _remove_losers(self, job: Job) -> None:
        published = {image["path"] for image in job.images}

        def remove() -> int:
            files = self._output.files_of(job.job_id)
            return self._output.remove(path for path in files if path not in published)

        with contextlib.suppress(OSError):  # swept at the next start
            await asyncio.to_thread(remove)

    async def _sweep(self) -> None:
        """Remove what attempts of earlier lives left. Files of jobs that this store does not know
        are somebody else's and stay."""
        try:
            by_job: dict[str, list[str]] = {}
            for path, job_id in await asyncio.to_thread(lambda: list(self._output.stored())):
                by_job.setdefault(job_id, []).append(path)
            ids = list(by_job)
            for start in range(0, len(ids), 500):
                jobs = await self._store.get_many(ids[start : start + 500])
                for job_id, job in jobs.items():
                    if job.completed_at is None or job.completed_at >= self._born_at:
                        continue  # this life's: `_end` removes what its attempts leave
                    published = {image["path"] for image in job.images}
                    losers = [path for path in by_job[job_id] if path not in published]
                    await asyncio.to_thread(self._output.remove, losers)
        except OSError as error:
            log.error("sweep stopped: %s", error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # An empty context: what runs here must not belong to the call that happened to start it, or
        # cancelling that call (a client hung up) would cancel this too.
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("registry task failed", exc_info=error)


def _refused(code: str, detail: str, *, retry_after: float | None = None) -> SubmitReply:
    error = JobError(code=code, title=detail, detail=detail, retryable=retry_after is not None)
    reply = SubmitReply(error=error)
    if retry_after is not None:
        reply["retry_after"] = retry_after
    return reply
