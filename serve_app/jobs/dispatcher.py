"""Dispatcher: launches jobs while there is room, and drives each attempt to its end.

Knows nothing of Ray. `launcher` runs attempts, `lines` say which job is next, `pauses` whether anything may
be launched, and `settle` decides what the end of an attempt means for its job.

The life of an attempt: its fence, the job's fence + 1, is committed; it is launched; it ends. If no renderer
has handed over a result, its fence is dropped then, so that no engine works for it any longer. Only after
that may the job's next attempt start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, Protocol

from serve_app.jobs.background import Background
from serve_app.jobs.job import Job
from serve_app.jobs.line import Entry
from serve_app.jobs.lines import Lines, needs_renderer
from serve_app.jobs.pauses import Pauses, backoff
from serve_app.jobs.pools import Pools
from serve_app.jobs.repository import JobRepository
from serve_app.messages import Outcome, Summary, Ticket
from serve_app.metrics import JobMetrics

log = logging.getLogger("assets.registry")

CANCEL_GRACE_S = 2.0
"""An engine ends a dropped attempt within one step. A task that has not ended by then is killed: it may be
waiting for an engine that does not come."""

HANDED_OVER = frozenset({"drawn", "failed"})
"""Outcomes that a task makes of what a renderer has returned. After any other, an engine may still work."""

MEASURED_EVERY_S = 0.2
"""To set two gauges costs more than to commit a job."""


class TaskLost(Exception):
    """The process that ran an attempt is gone, and nobody knows how the attempt ended."""


class Launcher(Protocol):
    """Runs attempts and stops them. The Ray one is `cluster/launcher.py`."""

    async def run(self, ticket: Ticket) -> Outcome:
        """Run one attempt to its end. Raises TaskLost."""
        ...

    async def drop(self, epoch: int, fences: dict[str, int]) -> None:
        """Tell every engine to stop work for older epochs, and for these jobs (by id) up to these fences."""
        ...

    def kill(self, job_id: str) -> None:
        """Kill the task of this job, whatever it waits for. Its `run` then raises TaskLost."""
        ...

    def forget(self, job_id: str) -> None:
        """The job is over: what was drawn for it and could not be stored is not needed any more."""
        ...

    def send_previews(self, job_id: str) -> Coroutine[Any, Any, None]:
        """Tell the engine that draws this job to send previews from now on."""
        ...

    def lacking(self, pool: str) -> str | None:
        """What a renderer of this pool needs and no node of the cluster offers; None: nothing."""
        ...


class Dispatcher:
    """The attempts in flight. `settle(job, outcome)` is called when an attempt has ended and its fence is
    dropped. It returns whether the job needs another attempt. `can_store()`: images can be written now."""

    def __init__(
        self,
        jobs: JobRepository,
        lines: Lines,
        launcher: Launcher,
        metrics: JobMetrics,
        background: Background,
        *,
        epoch: int,
        pools: Pools,
        settle: Callable[[Job, Outcome], Awaitable[bool]],
        can_store: Callable[[], Awaitable[bool]],
    ) -> None:
        self._jobs, self._lines, self._launcher = jobs, lines, launcher
        self._metrics, self._background = metrics, background
        self._epoch, self._pools = epoch, pools
        self._settle, self._can_store = settle, can_store
        self._wake = asyncio.Event()
        self.pauses = Pauses(self._launching_may_go_on, background)
        self.max_in_flight = 1  # of a pool, until a deployment has told its pools
        self.cpu_slots = 1  # of those that need none
        self._busy: Counter[str] = Counter()  # pool -> attempts in flight
        self.previewed: set[str] = set()  # ids of jobs whose previews somebody watches
        self._measuring: asyncio.TimerHandle | None = None
        self._later: dict[str, asyncio.TimerHandle] = {}  # jobs that wait for their backoff
        self._losses: dict[str, int] = {}  # job id -> attempts lost in a row, for the backoff

    # ---- which job is launched ----

    async def run(self) -> None:
        """Launch jobs, for ever."""
        while True:
            self._wake.clear()
            while (entry := self._lines.pop(self._may_launch)) is not None:
                self._jobs.in_flight[entry.job_id] = 0  # no attempt is committed yet
                self._busy[entry.pool] += 1
                self._background.spawn(self._drive(entry))
            await self._wake.wait()

    def _may_launch(self, pool: str) -> bool:
        slots = self.cpu_slots
        if needs_renderer(pool):
            slots = self._pools.slots(pool, self.max_in_flight)
        return self._busy[pool] < slots and self.pauses.why(pool) is None

    def busy(self, pool: str) -> int:
        """Number of attempts in flight in this pool."""
        return self._busy[pool]

    def beside(self, job: Job) -> int:
        """Number of attempts in flight in the job's pool, without its own."""
        return self._busy[job.pool] - (job.job_id in self._jobs.in_flight)

    def enqueue(self, entry: Entry) -> None:
        if entry.job_id not in self._jobs.in_flight:
            self._lines.add(entry)
            self._wake.set()

    def waiting(self) -> int:
        """Number of live jobs without an attempt in flight."""
        return len(self._lines) + len(self._later)

    def observe_depth(self) -> None:
        """The depth has changed. It is measured in a moment, however often it changes until then."""
        if self._measuring is None:
            loop = asyncio.get_running_loop()
            self._measuring = loop.call_later(MEASURED_EVERY_S, self._measure_depth)

    def _measure_depth(self) -> None:
        self._measuring = None
        self._metrics.depth(self.waiting(), len(self._jobs.in_flight))

    def sizes(self) -> dict[str, int]:
        held = {
            "in_flight": self._jobs.in_flight,
            "losses": self._losses,
            "later": self._later,
            "previewed": self.previewed,
        }
        return {name: len(items) for name, items in held.items()}

    async def drain(self, timeout_s: float) -> bool:
        """Launch nothing more, and wait for the attempts in flight. True: none is left."""
        self.pauses.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._jobs.in_flight:
                    await self._jobs.cache.change()
        return not self._jobs.in_flight

    def _launching_may_go_on(self) -> None:
        self._wake.set()
        self._jobs.cache.notify()  # views of waiting jobs say why they wait

    # ---- what renderers report ----

    def renderers_changed(self) -> None:
        """What launched jobs wait for has changed."""
        waits_for: dict[str, str] = {}
        for job in list(self._jobs.cache.running.values()):
            if needs_renderer(job.pool) and job.status.waiting:
                if job.pool not in waits_for:
                    waits_for[job.pool] = self._waits_for(job.pool)
                if job.waiting_for != waits_for[job.pool]:
                    self._jobs.remember(job.evolve(waiting_for=waits_for[job.pool]))
        self._wake.set()  # another deployment may have more slots, or other pools

    def admitted(self, job_id: str) -> None:
        """A renderer has the job. If somebody began to watch it after its launch, the ticket did not say so:
        tell the renderer now."""
        if job_id in self.previewed:
            self._background.spawn(self._launcher.send_previews(job_id))

    def _waits_for(self, pool: str) -> str:
        waits_for = self._pools.renderers[pool].waits_for
        if waits_for == "replica" and (lacking := self._launcher.lacking(pool)):
            return f"replica: {lacking}"
        return waits_for

    # ---- what clients want of a job ----

    def leave_line(self, job_id: str) -> bool:
        """The job has ended. False: it does not stand in line."""
        return self._lines.remove(job_id)

    def stop(self, job: Job) -> None:
        """The job was revoked: take it out of the line, and stop its attempt."""
        self._lines.remove(job.job_id)
        if (timer := self._later.pop(job.job_id, None)) is not None:
            timer.cancel()
        self._forget(job.job_id)
        if self._jobs.in_flight.get(job.job_id):
            self._background.spawn(self._stop_attempt(job))

    async def _stop_attempt(self, job: Job) -> None:
        if not needs_renderer(
            job.pool
        ):  # no engine hears of it, and its task cannot be asked to end
            self._launcher.kill(job.job_id)
            return
        await self._launcher.drop(self._epoch, {job.job_id: job.fence})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_GRACE_S):
                while self._jobs.in_flight.get(job.job_id) == job.fence:
                    await self._jobs.cache.change()
        if self._jobs.in_flight.get(job.job_id) == job.fence:
            self._launcher.kill(job.job_id)
            await self._launcher.drop(self._epoch, {job.job_id: job.fence})

    async def send_previews(self, job_id: str) -> None:
        """Somebody watches how the job is drawn. Does nothing if the job has ended."""
        lives = job_id in self._lines or job_id in self._later or job_id in self._jobs.in_flight
        if lives and job_id not in self.previewed:
            self.previewed.add(job_id)
            if self._jobs.in_flight.get(job_id):
                await self._launcher.send_previews(job_id)

    def _forget(self, job_id: str) -> None:
        self._losses.pop(job_id, None)
        self.previewed.discard(job_id)
        self._launcher.forget(job_id)

    # ---- one attempt ----

    async def _drive(self, entry: Entry) -> None:
        """Make one attempt at a job, then put the job back in line if it still lives."""
        job_id, over = entry.job_id, False
        try:
            job = await self._jobs.find(job_id)
            if job is not None and not job.status.terminal:  # else revoked or deleted just now
                await self._attempt(job, entry.pool)
                job = await self._jobs.find(job_id)
            over = job is None or job.status.terminal
        except sqlite3.Error as error:
            log.error("not stored: %s", error, extra={"job_id": job_id})
            self.pauses.pause("storage")
        finally:
            self._jobs.in_flight.pop(job_id, None)
            self._busy[entry.pool] -= 1
            self._jobs.cache.no_longer_runs(job_id)
            if over:
                self._forget(job_id)
            else:
                self._retry_later(entry)
            self.observe_depth()
            self._jobs.cache.notify()
            self._wake.set()

    async def _attempt(self, job: Job, pool: str) -> None:
        """Commit the fence, launch, wait for the end, settle. `pool`: whose slots it has, which may be
        another one than when it was ordered. Raises sqlite3.Error."""
        job_id, fence = job.job_id, job.fence + 1
        self._jobs.in_flight[job_id] = fence
        waits_for = self._waits_for(pool) if needs_renderer(pool) else None
        summary: Summary = job.summary if pool == job.pool else {**job.summary, "pool": pool}
        begun = job.evolve(fence=fence, waiting_for=waits_for, summary=summary)
        if not await self._jobs.save(begun, job.fence):
            return  # it was revoked meanwhile: there is no attempt
        outcome = await self._launch(begun)
        if extra := outcome.get("extra_work"):
            self._lines.of(pool).charge(job.client, extra)
        handed_over = outcome["kind"] in HANDED_OVER or self._jobs.held_by(job_id, fence) is None
        if needs_renderer(pool) and not handed_over:
            await self._launcher.drop(self._epoch, {job_id: fence})
        if await self._settle(begun, outcome):
            self._count_loss(begun, outcome)

    async def _launch(self, job: Job) -> Outcome:
        ticket = Ticket(
            job_id=job.job_id,
            params=job.params,
            summary=job.summary,
            epoch=self._epoch,
            fence=job.fence,
            alone=job.alone,
            priority=job.priority,
            preview=job.job_id in self.previewed,
        )
        try:
            return await self._launcher.run(ticket)
        except TaskLost as error:
            return Outcome(kind="lost", reason=str(error))
        except Exception as bug:
            # It must not cost the job its turn, nor launch it again and again without a pause.
            log.exception("an attempt could not be launched", extra={"job_id": job.job_id})
            return Outcome(kind="lost", reason=type(bug).__name__)

    def _count_loss(self, job: Job, outcome: Outcome) -> None:
        """Make sure that a fault that lasts is not met again at once: without a renderer no job of the pool
        is launched for a while, with a full disk none at all; otherwise this job waits, longer after each
        loss in a row."""
        match outcome["kind"]:
            case "released":
                self.pauses.pause_pool(job.pool, "renderer")
            case "full":
                self.pauses.pause("storage", self._can_store)
            case _:
                self._losses[job.job_id] = self._losses.get(job.job_id, 0) + 1

    def _retry_later(self, entry: Entry) -> None:
        losses = self._losses.get(entry.job_id, 0)
        if losses <= 1:
            self._again(entry)
            return
        timer = asyncio.get_running_loop().call_later(backoff(0.5, losses), self._again, entry)
        self._later[entry.job_id] = timer

    def _again(self, entry: Entry) -> None:
        self._later.pop(entry.job_id, None)
        self._lines.put_back(replace(entry, pool=self._pools.home(entry.pool, entry.model)))
        self._wake.set()
