"""JobRegistry: the only writer of job state. It takes orders, publishes ends, and tells who watches.

Knows nothing of Ray, HTTP or torch. `repository` keeps rows and memory in step, `line` says who is next,
`dispatcher` drives attempts, `endings` ends jobs, `estimates` says how long they take, `cleaning` removes
files. Life of a job: submit (committed, then answered) -> its turn comes -> dispatched under a fence ->
admitted -> finish or fail, both checked against the fence -> watchers hear of it. A revoked job is committed
as such first, and then its work is stopped.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from serve_app.jobs.background import Background
from serve_app.jobs.cache import JobCache
from serve_app.jobs.cleaning import Cleaning, JobFiles
from serve_app.jobs.clock import Clock
from serve_app.jobs.deadlines import Deadlines
from serve_app.jobs.dispatcher import Dispatcher, Launcher
from serve_app.jobs.endings import CANCELLED, Endings
from serve_app.jobs.estimates import Estimates
from serve_app.jobs.job import Job, Status
from serve_app.jobs.line import Entry, Line
from serve_app.jobs.outcomes import Outcomes
from serve_app.jobs.renderers import Renderers
from serve_app.jobs.repository import JobRepository
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import (
    JobError,
    JobFilter,
    JobPage,
    JobView,
    PreviewImage,
    Report,
    Submission,
    SubmitReply,
    Tombstone,
    WatchReply,
)
from serve_app.metrics import JobMetrics

log = logging.getLogger("assets.registry")


@dataclass(frozen=True, kw_only=True)
class RegistryLimits:
    """What a deployment may set anew while jobs live."""

    max_in_flight: int
    max_pending: int
    max_attempts: int
    cached_jobs: int
    idempotency_s: float
    retention_s: float | None = None  # None: finished jobs stay until somebody deletes them
    client_weights: Mapping[str, float] = field(default_factory=dict[str, float])


class JobRegistry:
    """Call `start` first. Every method may be called again with the same arguments: the transport
    repeats calls whose answer was lost."""

    def __init__(
        self,
        store: SqliteStore,
        launcher: Launcher,
        files: JobFiles,
        metrics: JobMetrics,
        limits: RegistryLimits,
    ) -> None:
        self._store, self._launcher, self._metrics = store, launcher, metrics
        self.epoch = store.epoch
        self._cache = JobCache(limits.cached_jobs)
        self._jobs = JobRepository(store, self._cache)
        self._background = Background()
        self._line = Line()
        self._clock = Clock()
        self._renderers = Renderers()
        self._cleaning = Cleaning(store, files)
        self._dispatcher = Dispatcher(
            self._jobs,
            self._line,
            launcher,
            metrics,
            self._background,
            epoch=store.epoch,
            renderers=self._renderers,
            settle=lambda begun, outcome: self._outcomes.settle(begun, outcome),
            can_store=self._cleaning.can_store,
        )
        self._pauses = self._dispatcher.pauses
        self._estimates = Estimates(
            self._cache, self._line, self._pauses.why, store.epoch, self._clock.now
        )
        self._deadlines = Deadlines(
            lambda job_id: self._background.spawn(self._endings.deadline_passed(job_id))
        )
        self._endings = Endings(
            self._jobs,
            self._dispatcher,
            self._estimates,
            self._cleaning,
            self._deadlines,
            metrics,
            self._clock,
        )
        self._outcomes = Outcomes(
            self._jobs,
            self._endings,
            self._cleaning,
            self._renderers,
            metrics,
            self._clock,
            self._background,
        )
        self._use(limits)
        self._arriving = 0  # submits on their way to the disk
        self._deployments = 0

    def configure(self, changes: Mapping[str, Any]) -> None:
        """New limits, from the newest deployed settings: fields of RegistryLimits. What newer code knows and
        this does not is ignored; what older code does not send stays."""
        known = {field.name for field in fields(RegistryLimits)}
        self._use(replace(self._limits, **{k: v for k, v in changes.items() if k in known}))

    def _use(self, limits: RegistryLimits) -> None:
        self._limits = limits
        self._dispatcher.max_in_flight = limits.max_in_flight
        self._outcomes.max_attempts = limits.max_attempts
        self._cache.cached_jobs = limits.cached_jobs
        self._line.weights = limits.client_weights
        self._estimates.retention_s = self._endings.retention_s = limits.retention_s

    def serves(self, model: str, revision: str) -> None:
        """The weights of the newest deployment."""
        self._renderers.deployed(model, revision)
        self._dispatcher.renderers_changed()

    def deployed(self) -> None:
        """An ingress came up: launch again at once, and tell the older ones that it did."""
        self._deployments += 1
        self._pauses.cancel_drain()

    def resume(self) -> None:
        """Something changed for the better: launch again at once."""
        self._pauses.resume()

    # ---- life ----

    async def start(self) -> None:
        """Take up what an earlier life left: its jobs wait again, at no attempt."""
        self._clock.after(await self._store.last_number())
        for job in await self._store.recent(self._cache.cached_jobs):
            self._cache.hold(job, running=False)
        for job in await self._store.take_over():
            self._dispatcher.enqueue(Entry(job.place, job.job_id, job.client, job.work))
            if job.deadline is not None:
                self._deadlines.set(job.job_id, job.deadline - self._clock.now())
        # Nobody owns what older epochs started.
        self._background.spawn(self._launcher.drop(self.epoch, {}))
        self._background.spawn(self._dispatcher.run())
        self._background.spawn(self._cleaning.sweep())
        self._background.spawn(
            self._cleaning.retire(self._endings.retired_before, self._endings.bury)
        )

    async def drain(self, timeout_s: float) -> bool:
        """Launch nothing more and wait for what runs. True if nothing runs any more."""
        return await self._dispatcher.drain(timeout_s)

    async def close(self) -> None:
        self._deadlines.close()
        await self._background.close()
        await self._store.close()

    # ---- for the ingress: orders ----

    async def submit(self, order: Submission) -> SubmitReply:
        """Committed before it is answered. Refused: too late, or the line is full."""
        return await self._background.complete(self._take(order))

    async def _take(self, order: Submission) -> SubmitReply:
        known = self._cache.get(order["job_id"])
        if known is not None:
            return SubmitReply(job=self._estimates.view(known), replayed=False)
        if time.time() > order["deadline"]:
            return _refused("too_late", "The registry was busy; submit again.", retry_after=1)
        job = self._new_job(order)
        full = self._dispatcher.waiting() + self._arriving >= self._limits.max_pending
        self._arriving += 1
        try:
            inserted = await self._store.insert(
                job,
                key=order.get("idempotency_key"),
                body_hash=order.get("body_hash", ""),
                key_expires_before=job.created_at - self._limits.idempotency_s,
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
            stands = await self._jobs.find(inserted.job_id)
            if stands is None:
                return _refused("deleted", "This order was taken, and the job was deleted since.")
            return SubmitReply(
                job=self._estimates.view(stands), replayed=inserted.job_id != order["job_id"]
            )
        self._estimates.promise(job)
        job = self._jobs.remember(job)
        self._dispatcher.enqueue(Entry(job.place, job.job_id, job.client, job.work))
        if job.deadline is not None:
            self._deadlines.set(job.job_id, job.deadline - job.created_at)
        self._metrics.submitted()
        self._dispatcher.observe_depth()
        return SubmitReply(job=self._estimates.view(job), replayed=False)

    async def cancel(self, job_id: str, owner: str) -> JobView | Tombstone | None:
        """The job as it is then; a finished one as it ended. The work stops within a step."""
        job = await self._background.complete(self._endings.revoke(job_id, owner, CANCELLED))
        return self._estimates.view(job) if job else await self._tombstone(job_id, owner)

    async def delete(self, job_id: str, owner: str) -> Tombstone | None:
        """Its record and its files are gone; a live job is cancelled first."""
        await self._background.complete(self._endings.delete(job_id, owner))
        return await self._tombstone(job_id, owner)

    def estimate(self, work: float, client: str) -> float | None:
        """Seconds until a job of `work` megapixel steps would be done that came now; None: nothing has run
        yet."""
        return self._estimates.of_new(work, client)

    # ---- for the ingress: looks ----

    async def get(self, job_id: str) -> JobView | Tombstone | None:
        job = await self._jobs.find(job_id)
        return await self._store.tombstone(job_id) if job is None else self._estimates.view(job)

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        """Newest first: those numbered below `before`, or above `after`, or the newest ones."""
        rows = await self._store.page(owner, wanted, limit=limit, before=before, after=after)
        jobs = [self._estimates.view(self._cache.newest(job)) for job in rows.jobs]
        # A page may be empty although the list goes on: then the way back starts where it began.
        if after is None:
            newest = rows.jobs[0].number if rows.jobs else before and before - 1
            return JobPage(jobs=jobs, older=rows.more, newer=newest if before else None)
        oldest = rows.jobs[-1].number if rows.jobs else after + 1
        return JobPage(jobs=jobs, older=oldest, newer=rows.more)

    async def watch(self, epoch: int, seq: int, timeout_s: float) -> WatchReply:
        """What changed after (epoch, seq); waits up to `timeout_s` for something to change. That
        somebody watches is also how the registry knows that there is an application."""
        self._pauses.watched()
        resync = epoch != self.epoch or self._cache.lost_track(seq)
        if seq >= self._cache.seq and not resync:
            await self._cache.change(timeout_s)
            resync = self._cache.lost_track(seq)
        if resync:
            jobs, upto = list(self._cache.running.values()), self._cache.seq
        else:
            jobs, upto = self._cache.after(seq)
        return WatchReply(
            epoch=self.epoch,
            seq=upto,
            resync=resync,
            jobs=[self._estimates.view(job) for job in jobs],
            gone=[] if resync else self._cache.gone_after(seq),
            paused=self._pauses.why(),
            deployment=self._deployments,
        )

    async def send_previews(self, job_id: str) -> None:
        """Somebody watches how it is drawn: previews from here on, until it ends."""
        await self._dispatcher.send_previews(job_id)

    def stats(self) -> dict[str, Any]:
        """Sizes of everything held; the maps are empty when nothing lives."""
        return {
            "epoch": self.epoch,
            "live": self._dispatcher.waiting() + len(self._jobs.in_flight),
            "waiting": self._dispatcher.waiting(),
            **self._dispatcher.sizes(),
            **self._cache.sizes(),
            "deadlines": len(self._deadlines),
            "paused": self._pauses.why(),
            "proven": self._renderers.proven,
            "load_error": self._renderers.load_error,
            "lacking": self._launcher.lacking(),
            **self._estimates.stats(),
        }

    # ---- for the renderers ----

    def dropped(self) -> tuple[int, dict[str, int]]:
        """What a new renderer must not work on, whoever asks: older epochs than this one, and job id ->
        highest dead fence."""
        running = {job_id: fence - 1 for job_id, fence in self._jobs.in_flight.items() if fence > 1}
        ended = {
            job.job_id: job.fence
            for job in self._cache.final()
            if job.fence > 1 or (job.fence and job.status is Status.REVOKED)
        }
        return self.epoch, running | ended

    def disowned(self, holders: dict[str, int]) -> tuple[int, dict[str, int]]:
        """This epoch, and those of a renderer's jobs, by id and fence, that nobody waits for any more: it
        may not have heard of their end."""
        in_flight = self._jobs.in_flight
        dead = {job: fence for job, fence in holders.items() if in_flight.get(job) != fence}
        return self.epoch, dead

    def loading(self) -> None:
        """A renderer has started and loads its model."""
        self._renderers.starts_loading()
        self._dispatcher.renderers_changed()

    def load_failed(self, why: str) -> None:
        """A renderer could not load its model. `why`: fit to be shown to anyone."""
        log.error("the model cannot be loaded: %s", why)
        self._renderers.failed_to_load(why)
        self._dispatcher.renderers_changed()

    def ready(self, model: str, revision: str) -> None:
        """A renderer has loaded these weights."""
        self._renderers.is_ready(model, revision)
        self._dispatcher.renderers_changed()

    async def report(self, report: Report) -> dict[str, int]:
        """What happens in one renderer. Returns those of its attempts, by job id and fence, that are
        superseded and must stop. Raises sqlite3.Error."""
        for job_id, fence, solo_seconds in report["admitted"]:
            await self.admitted(job_id, fence, solo_seconds)
        for job_id, fence, progress in report["progress"]:
            self._progress(job_id, fence, progress)
        for job_id, fence, index, data in report["previews"]:
            self._preview(job_id, fence, index, data)
        told = (*report["admitted"], *report["progress"])
        return {job: fence for job, fence, _ in told if self._jobs.held_by(job, fence) is None}

    async def admitted(self, job_id: str, fence: int, solo_seconds: float | None = None) -> bool:
        """A renderer starts to work on the attempt. False: it is superseded. Raises sqlite3.Error."""
        job = self._jobs.held_by(job_id, fence)
        if job is None:
            return False
        self._renderers.draws()
        self._dispatcher.admitted(job_id)
        if job.status is not Status.STARTED:
            self._estimates.admitted(job, solo_seconds)
            started = job.evolve(
                status=Status.STARTED, started_at=self._clock.now(), progress=None, waiting_for=None
            )
            await self._background.complete(self._jobs.save(started, fence))
        return self._jobs.held_by(job_id, fence) is not None

    def _progress(self, job_id: str, fence: int, progress: dict[str, Any]) -> None:
        """Never stored."""
        if (job := self._jobs.held_by(job_id, fence)) is not None:
            self._jobs.remember(job.evolve(progress=progress, reported_at=time.monotonic()))

    def _preview(self, job_id: str, fence: int, index: int, data: bytes) -> None:
        """Never stored."""
        if (job := self._jobs.held_by(job_id, fence)) is not None:
            number = job.preview["number"] + 1 if job.preview else 1
            image = PreviewImage(index=index, number=number, data=data)
            self._jobs.remember(job.evolve(preview=image))

    async def _tombstone(self, job_id: str, owner: str) -> Tombstone | None:
        stone = await self._store.tombstone(job_id)
        return stone if stone is not None and stone["owner"] == owner else None

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
        wait = self._estimates.seconds_per_place() * 10
        detail = f"{self._limits.max_pending} jobs wait already."
        return _refused("queue_full", detail, retry_after=min(60.0, max(1.0, wait)))


def _refused(code: str, detail: str, *, retry_after: float | None = None) -> SubmitReply:
    error = JobError(code=code, title=detail, detail=detail, retryable=retry_after is not None)
    reply = SubmitReply(error=error)
    if retry_after is not None:
        reply["retry_after"] = retry_after
    return reply
