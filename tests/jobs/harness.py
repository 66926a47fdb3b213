"""What registry tests stand on: a launcher that tests steer, real files, a real store."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from serve_app.artifacts.uploads import UploadFolder
from serve_app.encoding import decoded_views
from serve_app.jobs.deliveries import Courier
from serve_app.jobs.dispatcher import TaskLost
from serve_app.jobs.job import Job, Status
from serve_app.jobs.limits import RegistryLimits
from serve_app.jobs.registry import JobRegistry
from serve_app.jobs.store.database import Database
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import (
    ImageFile,
    JobError,
    JobView,
    Labels,
    Outcome,
    Report,
    Summary,
    Ticket,
)
from serve_app.params import GenerationParams
from tests.factories import image_file, submission

LIMITS = RegistryLimits(
    max_in_flight=4, max_pending=100, max_attempts=3, cached_jobs=100, idempotency_s=3600
)
DRAWN = Outcome(kind="drawn", reason="", images=[])
RELEASED = Outcome(kind="released", reason="no renderer")
DIED = Outcome(kind="died", reason="killed")
STOPPED = Outcome(kind="stopped", reason="redeploy")
ERROR = JobError(code="non_finite", title="t", detail="d", retryable=False)


@dataclass
class ManualLauncher:
    """Attempts run until the test ends them."""

    running: dict[tuple[str, int], tuple[Ticket, asyncio.Future[Outcome]]] = field(
        default_factory=dict[tuple[str, int], tuple[Ticket, asyncio.Future[Outcome]]]
    )
    launched: list[Ticket] = field(default_factory=list[Ticket])
    drops: list[tuple[int, dict[str, int]]] = field(
        default_factory=list[tuple[int, dict[str, int]]]
    )
    killed: list[str] = field(default_factory=list[str])
    previewed: list[str] = field(default_factory=list[str])
    lacks: str | None = None  # what the cluster has not
    ends_dropped: bool = True  # as an engine does: what is dropped comes to its end

    async def run(self, ticket: Ticket) -> Outcome:
        key = (ticket["job_id"], ticket["fence"])
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.running[key] = (ticket, future)
        self.launched.append(ticket)
        try:
            return await future
        finally:
            del self.running[key]

    async def drop(self, epoch: int, fences: dict[str, int]) -> None:
        self.drops.append((epoch, fences))
        for job_id, fence in fences.items():
            running = self.running.get((job_id, fence))
            if self.ends_dropped and running is not None and not running[1].done():
                self.end(job_id, fence, STOPPED)

    def kill(self, job_id: str) -> None:
        self.killed.append(job_id)
        for key in list(self.running):
            if key[0] == job_id:
                self.end(*key, None)

    def forget(self, job_id: str) -> None: ...

    async def send_previews(self, job_id: str) -> None:
        self.previewed.append(job_id)

    def end(self, job_id: str, fence: int, outcome: Outcome | None) -> None:
        """None: the task's process was killed."""
        future = self.running[job_id, fence][1]
        if outcome is None:
            future.set_exception(TaskLost("SIGKILL"))
        else:
            future.set_result(outcome)

    def lacking(self, pool: str) -> str | None:
        return self.lacks

    def runs(self, job_id: str) -> bool:
        return any(running == job_id for running, _ in self.running)


@dataclass
class Folder:
    """`cleaning.JobFiles` over plain files named `{job_id}_{fence}.png`."""

    root: Path
    full: bool = False  # the disk takes nothing now

    def put(self, job_id: str, fence: int) -> ImageFile:
        data = f"{job_id} {fence}".encode()
        path = f"{job_id}_{fence}.png"
        (self.root / path).write_bytes(data)
        return image_file(data, path=path)

    @property
    def uploads(self) -> UploadFolder:
        return UploadFolder(self.root)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())

    def files_of(self, job_ids: Iterable[str]) -> dict[str, list[str]]:
        return {job_id: [path.name for path in self.root.glob(f"{job_id}_*")] for job_id in job_ids}

    def names_for(self, job_id: str, summary: Summary, fence: int) -> list[str]:
        if summary.get("extra_files"):
            return self.files_of([job_id])[job_id]
        return [f"{job_id}_{attempt}.png" for attempt in range(1, fence + 1)]

    def probe(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def remove(self, paths: Iterable[str]) -> int:
        count = 0
        for path in paths:
            (self.root / path).unlink(missing_ok=True)
            count += 1
        return count


class Moves:
    """Every change of a job's status, as whoever watches the registry hears of it, over restarts too."""

    def __init__(self) -> None:
        self.known: dict[str, Status] = {}
        self.seen: set[tuple[Status, Status]] = set()

    async def follow(self, registry: JobRegistry) -> None:
        """For ever, as an ingress does: after a resync it asks for each job that lived."""
        epoch = seq = 0
        while True:
            reply = await registry.watch(epoch, seq, 60)
            epoch, seq = reply["epoch"], reply["seq"]
            for view in decoded_views(reply["views"]):
                self._note(view)
            for job_id in reply["gone"]:
                self.known.pop(job_id, None)
            if reply["resync"]:
                for job_id in [job_id for job_id in self.known if not self.known[job_id].terminal]:
                    found = await registry.get(job_id)
                    if found is not None and "status" in found:
                        self._note(found)

    def _note(self, view: JobView) -> None:
        status = Status(view["status"])
        before = self.known.get(view["job_id"], status)
        self.known[view["job_id"]] = status
        if before is not status:
            self.seen.add((before, status))


class NoMetrics:
    """Where a registry reports to nobody."""

    def submitted(self, jobs: int = 1) -> None:
        assert jobs > 0, "Ray's counters refuse anything else"

    def finished(self, state: str, model: str) -> None: ...
    def retried(self, reason: str) -> None: ...
    def times(self, *, queue_s: float, run_s: float) -> None: ...
    def depth(self, waiting: int, in_flight: int) -> None: ...
    def share(self, client: str, seconds: float) -> None: ...
    def eta_error(self, seconds: float) -> None: ...

    def webhook(self, outcome: str, calls: int) -> None:
        assert calls > 0, "Ray's counters refuse anything else"

    def outbox(self, waiting: int, oldest_s: float) -> None: ...


@dataclass
class World:
    """One registry on one directory, which can die and come back."""

    directory: Path
    limits: dict[str, Any] = field(default_factory=dict[str, Any])
    moves: Moves | None = None  # hears of every change
    courier: Courier | None = None  # calls webhooks
    opens: Callable[[], SqliteStore] | None = None  # the store; None: SQLite in the directory

    def __post_init__(self) -> None:
        (self.directory / "out").mkdir(exist_ok=True)
        self.files = Folder(self.directory / "out")
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.rise()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def rise(self) -> None:
        self.launcher = ManualLauncher()
        opens = self.opens or (lambda: SqliteStore(self.directory / "state", lock_timeout_s=0.2))
        self.registry = JobRegistry(
            opens(),
            self.launcher,
            self.files,
            NoMetrics(),
            dataclasses.replace(LIMITS, **self.limits),
            self.courier,
        )
        await self.registry.start()
        await self.see_ingress()
        if self.moves is not None:
            self._following = asyncio.create_task(self.moves.follow(self.registry))

    async def die(self) -> None:
        """Everything in memory is gone, as after a SIGKILL: nothing is flushed or finished first."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        await self.registry.close()

    async def die_and_rise(self) -> None:
        await self.die()
        await self.rise()

    async def see_ingress(self) -> None:
        await self.registry.watch(self.registry.epoch, 0, 0)

    def lose_ingress(self) -> None:
        """Nobody has watched for long: there is no application."""
        self.registry._pauses._watched_at = float("-inf")

    async def submit(
        self, order: GenerationParams | None = None, labelled: Labels | None = None, **changes: Any
    ) -> str:
        """The id of a new job; the arguments are those of `factories.submission`."""
        reply = await self.registry.submit(submission(order, labelled, **changes))
        assert "job" in reply, reply
        return reply["job"]["job_id"]

    async def launched(self, job_id: str, fence: int = 1) -> Ticket:
        """Wait until this attempt runs."""
        await self.until(lambda: (job_id, fence) in self.launcher.running)
        return self.launcher.running[job_id, fence][0]

    async def started(self, job_id: str, fence: int = 1) -> None:
        await self.launched(job_id, fence)
        assert await self.registry.admitted(job_id, fence)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition on state that changes only when the registry acts."""
        async with asyncio.timeout(10):
            cursor = 0
            while not condition():
                cursor = (await self.registry.watch(self.registry.epoch, cursor, 0.05))["seq"]

    async def status(self, job_id: str) -> str:
        view = await self.registry.get(job_id)
        assert view is not None
        return view["status"] if "status" in view else view["gone"]

    async def look(self, job_id: str) -> JobView:
        """The job, which is there."""
        view = await self.registry.get(job_id)
        assert view is not None
        assert "status" in view
        return view

    async def code_of(self, job_id: str) -> str | None:
        error = (await self.look(job_id))["error"]
        return None if error is None else error["code"]

    async def ended(self, job_id: str) -> None:
        await self.becomes(job_id, "SUCCESS", "FAILURE", "REVOKED")

    async def becomes(self, job_id: str, *statuses: str) -> None:
        async with asyncio.timeout(10):
            cursor = 0
            while await self.status(job_id) not in statuses:
                cursor = (await self.registry.watch(self.registry.epoch, cursor, 0.05))["seq"]

    async def finish(self, job_id: str, fence: int, images: list[ImageFile]) -> bool:
        """End an attempt with these files. True: they are published."""
        outcome = Outcome(kind="drawn", reason="", images=images)
        return await self._end(job_id, fence, outcome, "SUCCESS")

    async def fail(self, job_id: str, fence: int, error: JobError = ERROR) -> bool:
        """End an attempt that cannot be drawn. True: the job has failed."""
        outcome = Outcome(kind="failed", reason=error["detail"], error=error)
        return await self._end(job_id, fence, outcome, "FAILURE")

    async def _end(self, job_id: str, fence: int, outcome: Outcome, status: str) -> bool:
        if (job_id, fence) not in self.launcher.running:
            return False
        self.launcher.end(job_id, fence, outcome)
        await self.until(lambda: self.registry._jobs.in_flight.get(job_id) != fence)
        found = await self.registry.get(job_id)
        if found is None or "status" not in found:
            return False
        return (found["fence"], found["status"]) == (fence, status)

    async def progress(self, job_id: str, fence: int, progress: dict[str, Any]) -> bool:
        """True: the attempt goes on."""
        told = [(job_id, fence, progress)]
        return not await self.registry.report(Report(admitted=[], progress=told, previews=[]))

    async def preview(self, job_id: str, fence: int, index: int, data: bytes) -> bool:
        """True: the attempt goes on."""
        goes_on = self.registry._jobs.held_by(job_id, fence) is not None
        looks = [(job_id, fence, index, data)]
        await self.registry.report(Report(admitted=[], progress=[], previews=looks))
        return goes_on

    async def draw(self, job_id: str, fence: int = 1) -> bool:
        """Play a whole successful attempt."""
        await self.started(job_id, fence)
        return await self.finish(job_id, fence, [self.files.put(job_id, fence)])

    async def draw_next(self) -> str:
        """Play a whole successful attempt at whichever job runs; its id."""
        await self.until(lambda: self.launcher.running)
        job_id, fence = next(iter(self.launcher.running))
        await self.draw(job_id, fence)
        await self.until(lambda: not self.launcher.runs(job_id))
        return job_id

    async def idle(self) -> None:
        await self.until(lambda: self.registry.stats()["in_flight"] == 0)


@contextlib.asynccontextmanager
async def writer_held(database: Database) -> AsyncGenerator[None]:
    """Writes wait until the block is left; then they are committed together, in the order they came."""
    entered, gate = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        entered.set()
        gate.wait(10)

    holding = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(entered.wait, 10)
    try:
        yield
    finally:
        gate.set()
        await holding


def disk_held(world: World) -> contextlib.AbstractAsyncContextManager[None]:
    """The same, of the registry's own store."""
    return writer_held(world.registry._store._database)


async def turns(number: int = 20) -> None:
    """Let whatever can go on without disk or timer go on."""
    for _ in range(number):
        await asyncio.sleep(0)


def nothing_lives(world: World) -> bool:
    """Whatever the registry holds for jobs that live is empty."""
    stats = world.registry.stats()
    maps = ("live", "waiting", "in_flight", "losses", "later", "previewed", "deadlines", "promised")
    return not any(stats[name] for name in maps)


async def insert(store: SqliteStore, job: Job) -> None:
    """Store a new job under no key."""
    await store.insert(job, key=None, body_hash="", key_expires_before=0.0)
