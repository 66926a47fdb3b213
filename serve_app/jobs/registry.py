"""JobRegistry: the only writer of job state. Clients, watchers, renderers and attempts all call it.

Knows nothing of Ray, HTTP or torch. Each part of the work is a class of its own:

    intake       an order becomes a job, or is refused
    quotas       what an owner may have, and has
    repository   rows, and the memory of them (`cache`), in step
    labelling    tags, marks and priority of a job change
    lines        which waiting job of a pool is next
    dispatcher   launches attempts and drives each to its end; `pauses` says when nothing is launched
    outcomes     what the end of an attempt means for its job
    endings      how a job ends
    batches      many orders accepted together
    pools        what each draws, and what its renderers have said of themselves
    estimates    position, time until done, and why a job waits
    bulletin     what all who watch are told, encoded once
    cleaning     removes files that no job publishes
    deadlines    a timer for each job that has one
    deliveries   sends webhooks what the store's outbox holds

The life of a job:
1. submit: it is committed to disk, and then answered; it joins the line.
2. Its turn comes: an attempt is committed under a new fence, and launched.
3. admitted: a renderer works on it. progress and preview follow.
4. The attempt ends with files or without: the fence is checked and the end is committed in one transaction.
5. Watchers are told of every change, also of this one.
If an attempt is lost, the job goes back to 2. If it is revoked, that is committed first, and then its work is
stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from serve_app.errors import NotWaiting
from serve_app.jobs.background import Background
from serve_app.jobs.batches import Batches
from serve_app.jobs.bulletin import Bulletin
from serve_app.jobs.cache import JobCache
from serve_app.jobs.cleaning import Cleaning, JobFiles
from serve_app.jobs.clock import Clock
from serve_app.jobs.deadlines import Deadlines
from serve_app.jobs.deliveries import Courier, Deliveries, NoCourier
from serve_app.jobs.dispatcher import Dispatcher, Launcher
from serve_app.jobs.endings import CANCELLED, Endings
from serve_app.jobs.estimates import Estimates
from serve_app.jobs.intake import Intake
from serve_app.jobs.job import Job, Status
from serve_app.jobs.labelling import Labelling
from serve_app.jobs.limits import RegistryLimits
from serve_app.jobs.lines import Lines, needs_renderer
from serve_app.jobs.outcomes import Outcomes
from serve_app.jobs.pools import Pools
from serve_app.jobs.quotas import Quotas
from serve_app.jobs.renderers import Renderers
from serve_app.jobs.repository import JobRepository
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import (
    BatchFilter,
    BatchPage,
    BatchPlan,
    BatchReply,
    BatchRetry,
    BatchRowView,
    BatchSubmission,
    BatchView,
    ChangeReply,
    ChangesReply,
    Delivery,
    DeliveryFilter,
    DeliveryPage,
    DeployedPool,
    HeldModel,
    JobChanges,
    JobFilter,
    JobPage,
    JobView,
    PreviewImage,
    Report,
    Submission,
    SubmitReply,
    Tombstone,
    Usage,
    WatchReply,
)
from serve_app.metrics import JobMetrics
from serve_app.params import DEFAULT_POOL

log = logging.getLogger("assets.registry")


async def _is_mended(renderers: Renderers) -> bool:
    return renderers.load_error is None


class JobRegistry:
    """Call `start` first. Every call may be repeated with the same arguments, since the transport repeats a
    call whose answer was lost. `epoch`: how often a registry was started on this store."""

    def __init__(
        self,
        store: SqliteStore,
        launcher: Launcher,
        files: JobFiles,
        metrics: JobMetrics,
        limits: RegistryLimits,
        courier: Courier | None = None,
    ) -> None:
        """`courier`: sends webhooks. None: they stay in the outbox."""
        self._store, self._launcher, self._metrics = store, launcher, metrics
        self.epoch = store.epoch
        self._cache = JobCache(limits.cached_jobs)
        self._jobs = JobRepository(store, self._cache)
        self._background = Background()
        self._lines = Lines()
        self._clock = Clock()
        self._pools = Pools()
        self._cleaning = Cleaning(store, files)
        self._dispatcher = Dispatcher(
            self._jobs,
            self._lines,
            launcher,
            metrics,
            self._background,
            epoch=store.epoch,
            pools=self._pools,
            settle=lambda begun, outcome: self._outcomes.settle(begun, outcome),
            can_store=self._cleaning.can_store,
        )
        self._pauses = self._dispatcher.pauses
        self._estimates = Estimates(
            self._cache, self._lines, self._pauses.why, store.epoch, self._clock.now
        )
        self._bulletin = Bulletin(self._estimates.view)
        self._deadlines = Deadlines(
            lambda job_id: self._background.spawn(self._endings.deadline_passed(job_id))
        )
        self._quotas = Quotas(store, self._cache, self._lines, self._estimates, self._clock.now)
        self._intake = Intake(
            self._jobs,
            self._lines,
            self._dispatcher,
            self._estimates,
            self._bulletin,
            self._deadlines,
            metrics,
            self._clock,
            self._pools,
            self._quotas,
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
            self._pools,
            metrics,
            self._clock,
            self._background,
        )
        self._batches = Batches(
            store,
            self._cache,
            self._intake,
            self._endings,
            self._estimates,
            metrics,
            self._clock,
            self._background,
        )
        self._labelling = Labelling(self._jobs, self._lines)
        self._sends_webhooks = courier is not None
        self._deliveries = Deliveries(
            store.outbox, courier or NoCourier(), self._background, metrics, self._clock.now
        )
        store.outbox.posted = self._deliveries.wake
        self._deployments = 0
        self._use(limits)

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Apply new limits, from the newest deployed settings: fields of RegistryLimits."""
        self._use(self._limits.changed(changes))

    def _use(self, limits: RegistryLimits) -> None:
        self._limits = limits
        self._intake.max_pending = limits.max_pending
        self._intake.idempotency_s = limits.idempotency_s
        self._dispatcher.max_in_flight = limits.max_in_flight
        self._dispatcher.cpu_slots = limits.cpu_slots
        self._outcomes.max_attempts = limits.max_attempts
        self._cache.cached_jobs = limits.cached_jobs
        self._lines.weights = limits.client_weights
        self._estimates.retention_s = self._endings.retention_s = limits.retention_s

    def store_in(self, files: JobFiles) -> None:
        """From now on files are removed, and looked for, there."""
        self._cleaning.files = files

    def serves(self, pools: Mapping[str, DeployedPool]) -> None:
        """The pools of the newest deployment. Jobs that wait go to those that draw them now."""
        self._pools.deployed(pools)
        self._lines.rehome(self._pools.home)
        self._dispatcher.renderers_changed()

    def deployed(self) -> None:
        """An ingress came up: end every pause and drain, and tell the older ingresses of it."""
        self._deployments += 1
        self._pauses.cancel_drain()

    def resume(self) -> None:
        """The cause of a pause may be gone: launch again at once."""
        self._pauses.resume()

    def wait_for_storage(self) -> None:
        """Launch nothing until images can be written."""
        self._pauses.pause("storage", self._cleaning.can_store)

    # ---- life ----

    async def start(self) -> None:
        """Take up the jobs in the store. Those that live join the line again, without an attempt. Raises
        sqlite3.Error; it may be called again then."""
        self._clock.after(await self._store.last_number())
        for job in await self._store.recent(self._cache.cached_jobs):
            self._cache.hold(job, running=False)
        await self._take_over(await self._store.started())
        for job in await self._store.live():
            self._intake.join(job)
        # Renderers may still work for attempts of older epochs.
        self._background.spawn(self._launcher.drop(self.epoch, {}))
        self._background.spawn(self._dispatcher.run())
        self._background.spawn(self._cleaning.sweep())
        if self._sends_webhooks:
            self._background.spawn(self._deliveries.run())
            self._background.spawn(self._deliveries.tidy())
            self._background.spawn(self._deliveries.measure())
        self._background.spawn(
            self._cleaning.retire(self._endings.retired_before, self._endings.bury, self._clock.now)
        )

    async def _take_over(self, started: list[Job]) -> None:
        """Jobs that were drawn when the registry before this one ended. Together, so that they share commits,
        and none is under way any more when one has failed."""
        ends = await asyncio.gather(
            *map(self._outcomes.interrupted, started), return_exceptions=True
        )
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def drain(self, timeout_s: float) -> bool:
        """Launch nothing more, and wait for the attempts in flight. True: none is left."""
        return await self._dispatcher.drain(timeout_s)

    async def close(self) -> None:
        self._deadlines.close()
        await self._background.close()
        await self._store.close()

    # ---- called by the ingress: orders ----

    async def submit(self, order: Submission) -> SubmitReply:
        """The job, which is on disk now, or the error for which the order is refused."""
        return await self._background.complete(self._intake.submit(order))

    async def known(self, owner: str, key: str, body_hash: str) -> SubmitReply | None:
        """The job that this owner ordered under this idempotency key, or the error of a key that came with
        another body. None: no such job."""
        return await self._intake.known(owner, key, body_hash)

    async def cancel(self, job_id: str, owner: str) -> JobView | Tombstone | None:
        """The job, revoked now or ended before. Its work stops within a step of the engine. None: this owner
        has no such job."""
        job = await self._background.complete(self._endings.revoke(job_id, owner, CANCELLED))
        return self._estimates.view(job) if job else await self._tombstone(job_id, owner)

    async def change(self, job_id: str, owner: str, changes: JobChanges) -> ChangeReply:
        """Other tags, marks or priority of a job. A priority can change only while the job is in line."""
        try:
            job = await self._background.complete(self._labelling.change(job_id, owner, changes))
        except NotWaiting:
            return ChangeReply(job=await self.get(job_id), begun=True)
        if job is None:
            return ChangeReply(job=await self._tombstone(job_id, owner), begun=False)
        return ChangeReply(job=self._estimates.view(job), begun=False)

    async def delete(self, job_id: str, owner: str) -> Tombstone | None:
        """Remove a job and its files; a live job is cancelled first. None: this owner had no such job."""
        await self._background.complete(self._endings.delete(job_id, owner))
        return await self._tombstone(job_id, owner)

    def estimate(self, work: float, client: str, model: str = "") -> float | None:
        """Seconds until a job of `work` megapixel steps of this model is done, if it is submitted now. None:
        unknown."""
        return self._estimates.of_new(work, client, self._pools.home(DEFAULT_POOL, model))

    async def usage(self, owner: str) -> Usage:
        """What this owner has and uses, of what quotas bound."""
        return await self._quotas.usage(owner)

    # ---- called by the ingress: batches ----

    async def submit_batch(self, order: BatchSubmission) -> BatchReply:
        """The batch, which is on disk now with all its jobs, or the error for which nothing of it is."""
        return await self._background.complete(self._batches.submit(order))

    async def known_batch(self, owner: str, key: str, body_hash: str) -> BatchReply | None:
        """The batch that this owner ordered with this body under this idempotency key. None: no such
        batch."""
        return await self._batches.known(owner, key, body_hash)

    async def retry_batch(self, again: BatchRetry) -> BatchReply:
        """The batch, where new jobs stand for these rows now, all of them or none."""
        return await self._background.complete(self._batches.retry(again))

    async def cancel_batch(self, batch_id: str, owner: str) -> BatchView | Tombstone | None:
        """The batch, which has ended. None: this owner has no such batch."""
        return await self._background.complete(self._batches.cancel(batch_id, owner))

    async def plan_batch(
        self, owner: str, name: str, keys: list[bytes], loads: dict[str, tuple[int, float]]
    ) -> BatchPlan:
        """What a batch of rows with these keys would do now. `loads`: by model, its rows and their work."""
        return await self._batches.plan(owner, name, keys, loads)

    async def batch(self, batch_id: str, owner: str) -> BatchView | Tombstone | None:
        """The batch, or its tombstone if all its jobs are deleted or expired; None: this owner has none."""
        return await self._batches.look(batch_id, owner)

    async def batches(
        self, owner: str, wanted: BatchFilter, limit: int, before: int | None, after: int | None
    ) -> BatchPage:
        """Batches of this owner, as `page` shows jobs."""
        return await self._batches.page(owner, wanted, limit, before, after)

    async def batch_rows(
        self, batch_id: str, owner: str, after: int, limit: int, lost: bool
    ) -> list[BatchRowView]:
        """Rows of the batch after this one; with `lost`, those whose jobs ended without pictures."""
        return await self._batches.rows(batch_id, owner, after, limit, lost)

    # ---- called by the ingress: webhooks ----

    async def deliveries(
        self, owner: str, wanted: DeliveryFilter, limit: int, before: int | None
    ) -> DeliveryPage:
        """Deliveries of this owner, newest first: those numbered below `before`, or the newest of all."""
        return await self._deliveries.page(owner, wanted, limit, before)

    async def redeliver(self, id: str, owner: str) -> Delivery | None:
        """Send it once more, whatever came of it before. None: this owner has no such delivery."""
        return await self._background.complete(self._deliveries.again(id, owner))

    async def test_webhook(self, owner: str, url: str) -> Delivery:
        """Call this URL once, about no job."""
        return await self._background.complete(self._deliveries.test(owner, url))

    # ---- called by the ingress: views ----

    async def get(self, job_id: str) -> JobView | Tombstone | None:
        """The job, whoever owns it; if it is deleted or has expired, its tombstone."""
        job = await self._jobs.find(job_id)
        return await self._store.tombstone(job_id) if job is None else self._estimates.view(job)

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        """Jobs of this owner, newest first: nearest below the number `before`, or nearest above `after`, or
        the newest ones."""
        rows = await self._store.page(owner, wanted, limit=limit, before=before, after=after)
        jobs = [self._estimates.view(self._cache.newest(job)) for job in rows.jobs]
        # A page may be empty although the list goes on. Then the way back starts at this page's own start.
        if after is None:
            newest = rows.jobs[0].number if rows.jobs else before and before - 1
            return JobPage(jobs=jobs, older=rows.more, newer=newest if before else None)
        oldest = rows.jobs[-1].number if rows.jobs else after + 1
        return JobPage(jobs=jobs, older=oldest, newer=rows.more)

    async def watch(self, epoch: int, seq: int, timeout_s: float) -> WatchReply:
        """What changed after (epoch, seq). Waits up to `timeout_s` for a change. These calls also tell the
        registry that there is an application."""
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
            views=self._bulletin.of(jobs),
            gone=[] if resync else self._cache.gone_after(seq),
            batches=self._cache.announced(seq, upto) if epoch == self.epoch else [],
            paused=self._pauses.why(),
            deployment=self._deployments,
            now=time.time(),
        )

    def changes(self, owner: str, epoch: int, seq: int) -> ChangesReply:
        """What changed of the owner's jobs after (epoch, seq). It costs nothing for the jobs of others."""
        if epoch != self.epoch or self._cache.lost_track(seq):
            return ChangesReply(seq=self._cache.seq, resync=True, more=False, jobs=[])
        jobs, upto = self._cache.after(seq, owner)
        return ChangesReply(
            seq=upto,
            resync=False,
            more=upto < self._cache.seq,
            jobs=[self._estimates.view(job) for job in jobs],
        )

    async def send_previews(self, job_id: str) -> None:
        """Somebody watches how the job is drawn: send previews from now on, until it ends."""
        await self._dispatcher.send_previews(job_id)

    def stats(self) -> dict[str, Any]:
        """Sizes of everything that is held. Those of live jobs are 0 when no job lives."""
        return {
            "epoch": self.epoch,
            "live": self._dispatcher.waiting() + len(self._jobs.in_flight),
            "waiting": self._dispatcher.waiting(),
            **self._dispatcher.sizes(),
            **self._cache.sizes(),
            "deadlines": len(self._deadlines),
            "webhooks": len(self._deliveries),
            "paused": self._pauses.why(),
            "pools": {name: self._pool_stats(name) for name in self._pools.names},
            **self._estimates.stats(),
        }

    def _pool_stats(self, pool: str) -> dict[str, Any]:
        known = self._pools.renderers[pool]
        return {
            "model": known.served and known.served[0],
            "waiting": len(self._lines.of(pool)),
            "in_flight": self._dispatcher.busy(pool),
            "paused": self._pauses.why(pool),
            "proven": known.proven,
            "load_error": known.load_error,
            "lacking": self._launcher.lacking(pool),
            "held": known.held(time.monotonic()),
        }

    # ---- called by renderers ----

    def dropped(self) -> tuple[int, dict[str, int]]:
        """This epoch, and job id -> highest fence that is over. A renderer that has just started must not
        work for older epochs, nor for such a fence, even if a task asks it to."""
        running = {job_id: fence - 1 for job_id, fence in self._jobs.in_flight.items() if fence > 1}
        ended = {
            job.job_id: job.fence
            for job in self._cache.final()
            if job.fence > 1 or (job.fence and job.status is Status.REVOKED)
        }
        return self.epoch, running | ended

    def disowned(self, holders: dict[str, int]) -> tuple[int, dict[str, int]]:
        """This epoch, and those of `holders` (job id -> fence) that have ended. A renderer asks so about all
        its jobs, since it may have missed that they were dropped."""
        in_flight = self._jobs.in_flight
        dead = {job: fence for job, fence in holders.items() if in_flight.get(job) != fence}
        return self.epoch, dead

    # Renderers of older code do not say their model when they load.
    def loading(self, model: str | None = None) -> None:
        """A renderer has started and loads its model."""
        self._pools.renderers_of(model).starts_loading()
        self._dispatcher.renderers_changed()

    def load_failed(self, why: str, model: str | None = None) -> None:
        """A renderer could not load its model. `why`: fit to be shown to anyone."""
        log.error("a renderer could not load its model: %s", why)
        self._pools.renderers_of(model).failed_to_load(why)
        self._dispatcher.renderers_changed()

    def ready(self, model: str, revision: str) -> None:
        """A renderer has loaded these weights."""
        self._pools.renderers_of(model).is_ready(model, revision)
        self._dispatcher.renderers_changed()

    def holds(self, renderer: str, held: dict[str, HeldModel]) -> None:
        """A renderer of several models says how each is, every few seconds. Jobs of one that it could not
        load wait in line, where they take no slot of the others."""
        changed = False
        for model, now in held.items():
            if (pool := self._pools.pool_of(model)) is None:
                continue
            known = self._pools.renderers[pool]
            before = known.waits_for
            known.holds(renderer, model, now, time.monotonic())
            changed |= known.waits_for != before
            if known.load_error is not None:
                self._pauses.pause_pool(pool, known.waits_for, partial(_is_mended, known))
            else:
                self._pauses.resume_pool(pool)
        if changed:
            self._dispatcher.renderers_changed()

    async def report(self, report: Report) -> dict[str, int]:
        """What happens in one renderer. Returns those of its attempts, by job id and fence, that are over or
        superseded: if they still run, they must stop. Raises sqlite3.Error."""
        # Together, so that they share one commit.
        await asyncio.gather(*(self.admitted(*entry) for entry in report["admitted"]))
        for job_id, fence, progress in report["progress"]:
            self._progress(job_id, fence, progress)
        for job_id, fence, index, data in report["previews"]:
            self._preview(job_id, fence, index, data)
        told = (*report["admitted"], *report["progress"])
        return {job: fence for job, fence, _ in told if self._jobs.held_by(job, fence) is None}

    async def admitted(self, job_id: str, fence: int, solo_seconds: float | None = None) -> bool:
        """A renderer, or its own task, starts to work on the attempt. False: it is superseded. Raises
        sqlite3.Error."""
        job = self._jobs.held_by(job_id, fence)
        if job is None:
            return False
        if needs_renderer(job.pool):
            drawn = job.summary["model"], job.summary["model_revision"]
            self._pools.renderers[job.pool].draws(*drawn)
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
