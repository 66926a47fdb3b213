"""JobRegistry: the only writer of job state. It takes orders, publishes ends, and tells who watches.

Knows nothing of Ray, HTTP or torch: `dispatcher` launches and settles attempts, `record` keeps rows
and memory in step, `output` keeps files. Life of a job: submit (committed, then answered) ->
dispatched under a fence -> admitted -> finish or fail, both checked against the fence -> watchers
hear of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from serve_app.jobs.background import Background
from serve_app.jobs.dispatcher import Dispatcher, Launcher
from serve_app.jobs.job import Job, Status
from serve_app.jobs.ledger import Ledger
from serve_app.jobs.record import Record
from serve_app.jobs.store import SqliteStore
from serve_app.messages import (
    ImageFile,
    JobError,
    JobView,
    SubmitOrder,
    SubmitReply,
    WatchReply,
)
from serve_app.metrics import JobMetrics

log = logging.getLogger("assets.registry")


class Output(Protocol):
    """The part of `artifacts.OutputDir` that cleaning up needs. Paths are relative to it."""

    def files_of(self, job_id: str) -> list[str]: ...

    def stored(self) -> Iterable[tuple[str, str]]:
        """(path, job id) of every file there that an attempt wrote, temporary ones too."""
        ...

    def remove(self, paths: Iterable[str]) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a deployment may set anew while jobs live."""

    max_in_flight: int
    max_pending: int
    max_attempts: int
    slots: int  # of all replicas together
    cached_jobs: int
    idempotency_s: float


class JobRegistry:
    """Call `start` first. Every method may be called again with the same arguments: the transport
    repeats calls whose answer was lost."""

    def __init__(
        self,
        store: SqliteStore,
        launcher: Launcher,
        output: Output,
        metrics: JobMetrics,
        limits: Limits,
    ) -> None:
        self._store, self._launcher, self._output, self._metrics = store, launcher, output, metrics
        self.epoch = store.epoch
        self._ledger = Ledger(limits.cached_jobs)
        self._record = Record(store, self._ledger, metrics)
        self._background = Background()
        self._dispatcher = Dispatcher(
            self._record, launcher, metrics, self._background, epoch=store.epoch, end=self._end
        )
        self.configure(limits)
        self._born_at = time.time()
        self._order = 0
        self._arriving = 0  # submits on their way to the disk
        self._seconds_per_job: float | None = None

    def configure(self, limits: Limits) -> None:
        """New limits, from the newest deployed settings."""
        self._limits = limits
        self._dispatcher.max_in_flight = limits.max_in_flight
        self._dispatcher.max_attempts = limits.max_attempts
        self._ledger.cached_jobs = limits.cached_jobs

    def resume(self) -> None:
        """Something changed for the better: launch again at once."""
        self._dispatcher.resume()

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
            self._dispatcher.enqueue(job)
        # Nobody owns what older epochs started.
        self._background.spawn(self._launcher.drop(self.epoch, {}))
        self._background.spawn(self._dispatcher.run())
        self._background.spawn(self._sweep())

    async def drain(self, timeout_s: float) -> bool:
        """Launch nothing more and wait for what runs. True if nothing runs any more."""
        return await self._dispatcher.drain(timeout_s)

    async def close(self) -> None:
        await self._background.close()
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
        full = self._record.waiting() + self._arriving >= self._limits.max_pending
        self._arriving += 1
        try:
            inserted = await self._store.insert(
                job,
                key=order.get("idempotency_key"),
                body_hash=order.get("body_hash", ""),
                key_expires_before=now - self._limits.idempotency_s,
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
        job = self._record.touch(job)
        self._dispatcher.enqueue(job)
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
        self._dispatcher.watched()
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
            slots=self._limits.slots,
            now=time.time(),
            paused=self._dispatcher.why_paused(),
        )

    def dropped(self) -> dict[str, int]:
        """What a new renderer must not work on, whoever asks: job id -> highest dead fence."""
        running = {
            job_id: fence - 1 for job_id, fence in self._record.in_flight.items() if fence > 1
        }
        ended = {job.job_id: job.fence for job in self._ledger.finished.values() if job.fence > 1}
        return running | ended

    def stats(self) -> dict[str, Any]:
        """Sizes of everything held; the maps are empty when nothing lives."""
        return {
            "epoch": self.epoch,
            "live": len(self._ledger.live),
            "waiting": self._record.waiting(),
            **self._dispatcher.sizes(),
            "cached": len(self._ledger.finished),
            "changes": len(self._ledger),
            "paused": self._dispatcher.why_paused(),
        }

    # ---- for the attempt ----

    async def admitted(self, job_id: str, fence: int) -> bool:
        """A renderer starts to work on the attempt. False: it is superseded and must stop."""
        job = self._record.held_by(job_id, fence)
        if job is None:
            return False
        if job.status is not Status.STARTED:
            started = job.evolve(status=Status.STARTED, started_at=time.time(), progress=None)
            await self._record.save(started, fence)
        return self._record.held_by(job_id, fence) is not None

    async def progress(self, job_id: str, fence: int, progress: dict[str, Any]) -> bool:
        """Never stored. False: the attempt is superseded and must stop."""
        job = self._record.held_by(job_id, fence)
        if job is not None:
            self._record.touch(job.evolve(progress=progress))
        return job is not None

    async def finish(self, job_id: str, fence: int, images: list[ImageFile]) -> bool:
        """Publish. False: the attempt is superseded, and its files must go."""
        job = self._record.held_by(job_id, fence)
        if job is None:
            return await self._has_ended(job_id, fence, Status.SUCCESS)
        return await self._end(job.evolve(status=Status.SUCCESS, images=tuple(images)))

    async def fail(self, job_id: str, fence: int, error: JobError) -> bool:
        """The job failed for good. False: the attempt is superseded."""
        job = self._record.held_by(job_id, fence)
        if job is None:
            return await self._has_ended(job_id, fence, Status.FAILURE)
        return await self._end(job.evolve(status=Status.FAILURE, error=error))

    async def _has_ended(self, job_id: str, fence: int, status: Status) -> bool:
        """The call is a repeat of the one that ended the job."""
        job = self._ledger.finished.get(job_id) or await self._store.get(job_id)
        return job is not None and (job.fence, job.status) == (fence, status)

    # ---- the end of a job ----

    async def _end(self, job: Job) -> bool:
        """Make `job`, whose status is terminal, the truth. False: the row has moved on."""
        now = time.time()
        started_at = job.started_at or now
        ended = job.evolve(started_at=started_at, completed_at=now, progress=None, alone=False)
        if not await self._record.save(ended, job.fence):
            return False
        self._observe_end(ended)
        if job.fence > 1 or job.status is Status.FAILURE:
            await self._remove_losers(ended)
        return True

    def _observe_end(self, job: Job) -> None:
        assert job.started_at is not None
        assert job.completed_at is not None
        self._dispatcher.went_well()
        run = job.completed_at - job.started_at
        mean = self._seconds_per_job
        self._seconds_per_job = run if mean is None else 0.8 * mean + 0.2 * run
        self._metrics.finished(job.status.value, job.params.get("model", ""))
        self._metrics.times(queue_s=job.started_at - job.created_at, run_s=run)
        log.info("%s after %.2f s", job.status.value, run, extra={"job_id": job.job_id})

    def _full(self) -> SubmitReply:
        wait = (self._seconds_per_job or 1.0) * 10 / self._limits.slots
        detail = f"{self._limits.max_pending} jobs wait already."
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


def _refused(code: str, detail: str, *, retry_after: float | None = None) -> SubmitReply:
    error = JobError(code=code, title=detail, detail=detail, retryable=retry_after is not None)
    reply = SubmitReply(error=error)
    if retry_after is not None:
        reply["retry_after"] = retry_after
    return reply
