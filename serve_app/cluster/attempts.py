"""Attempts: runs attempts on the cluster. It calls a renderer, and hands the result's reference to one Ray
task per attempt, which starts when the pictures are there. So nobody waits in a process while it is drawn.

Knows handles, tasks and Ray's errors; nothing of why an attempt is launched or stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray
from ray.exceptions import (
    ActorDiedError,
    RayActorError,
    RayError,
    RayTaskError,
    TaskCancelledError,
)
from ray.serve.exceptions import RayServeException, RequestCancelledError

from serve_app.cluster.handles import renderer_handle, renderer_name
from serve_app.jobs.attempt import internal_error
from serve_app.jobs.dispatcher import TaskLost
from serve_app.jobs.lines import needs_renderer
from serve_app.messages import Outcome, OutputFolder, Redraw, Ticket
from serve_app.params import DEFAULT_POOL

BROADCAST_TIMEOUT_S = 5.0
HANDLE_CHECKED_EVERY_S = 1.0
"""A handle is asked for again so often: Serve may have been shut down and started again."""

CPUS_WITHOUT_RENDERER = 0.5
"""Logical CPUs of a task that does all the work. Less than one, so that it finds room beside a renderer on a
machine of two."""


class Means(NamedTuple):
    """What the task of an attempt gets."""

    folder: OutputFolder  # where it writes
    cpus: float  # logical ones, if all it does is to write


@dataclass(eq=False, slots=True)
class RunningAttempt:
    """One attempt on the cluster."""

    pool: str
    response: Any = None  # of the call to a renderer
    task: Any = None  # ref of the task that writes the files
    killed: bool = False
    drawn: list[Any] = field(default_factory=list[Any])  # refs of what renderers returned, by round


class Attempts:
    """The attempts that this process owns. `run_job_task(ticket, rendered, folder, app_name)` is the remote
    function of `app.py`."""

    def __init__(self, app_name: str, run_job_task: Any) -> None:
        self._app_name, self._task = app_name, run_job_task
        self._session: str | None = None
        self._running: dict[str, RunningAttempt] = {}  # by job id
        # By job id: refs of what was drawn in each round of an attempt that could not store it.
        self._drawn: dict[str, list[Any]] = {}
        self.pools = [DEFAULT_POOL]  # of the application
        # By pool: when it was asked for, and the handle.
        self._handles: dict[str, tuple[float, Any]] = {}

    def __len__(self) -> int:
        return len(self._running)

    async def run(self, ticket: Ticket, means: Means) -> Outcome:
        """Run one attempt to its end. Raises TaskLost."""
        job_id = ticket["job_id"]
        run = self._running[job_id] = RunningAttempt(ticket["summary"]["pool"])
        try:
            return await self._run(run, ticket, means)
        except RayError as error:
            raise TaskLost(_short(error)) from error
        finally:
            if self._running.get(job_id) is run:  # else another attempt at the job has begun
                del self._running[job_id]

    async def _run(self, run: RunningAttempt, ticket: Ticket, means: Means) -> Outcome:
        """The attempt, and each round of redraws that it asks for. What an earlier attempt has drawn and
        could not store is not drawn again: finishing makes the same of it, and asks for the same redraws."""
        if not needs_renderer(ticket["summary"]["pool"]):
            return await self._run_task(run, ticket, None, means)
        job_id, redraw = ticket["job_id"], None
        run.drawn = self._drawn.pop(job_id, [])
        kept = iter([*run.drawn])
        while True:
            if (rendered := next(kept, None)) is not None:
                outcome = await self._run_task(run, ticket, rendered, means, redraw)
            else:
                outcome = await self._draw(run, ticket, means, redraw)
            redraw = outcome.get("redraw")
            if outcome["kind"] != "redraw" or redraw is None:
                if outcome.get("unstored") and not run.killed:
                    self._drawn[job_id] = run.drawn
                return outcome

    async def _draw(
        self, run: RunningAttempt, ticket: Ticket, means: Means, redraw: Redraw | None
    ) -> Outcome:
        order: Ticket = ticket if redraw is None else {**ticket, "params": redraw["params"]}
        if any(order["params"].get(field) for field in ("init_image", "control", "reference")):
            order = {**order, "folder": means.folder}
        run.task = None  # of the round before
        try:
            run.response = self._renderer(ticket["summary"]["pool"]).render.remote(order)
            rendered = await run.response._to_object_ref()  # a renderer has accepted it
        except (RequestCancelledError, TaskCancelledError, asyncio.CancelledError) as error:
            if not run.killed:
                raise
            raise TaskLost("it was stopped before a renderer had it") from error
        except Exception as error:
            # Without an application or a replica; Serve's router may raise anything when they go away.
            return Outcome(kind="released", reason=_short(error))
        if run.killed:  # after a renderer had accepted it, and before its task was started
            raise TaskLost("it was stopped between the renderer and its task")
        run.drawn.append(rendered)
        return await self._run_task(run, ticket, rendered, means, redraw)

    async def _run_task(
        self,
        run: RunningAttempt,
        ticket: Ticket,
        rendered: Any,
        means: Means,
        redraw: Redraw | None = None,
    ) -> Outcome:
        """`rendered`: ref of what a renderer returns; None: the task does all the work."""
        options = {"name": f"job:{ticket['job_id']}", "num_cpus": means.cpus}
        if rendered is None:
            options |= {"num_cpus": CPUS_WITHOUT_RENDERER, "scheduling_strategy": "SPREAD"}
        task = self._task.options(**options)
        run.task = task.remote(ticket, rendered, means.folder, self._app_name, redraw)
        try:
            return await run.task
        except RayError as error:
            if (gone := _outcome_of(error)) is None:
                raise  # the task's own process is gone, or what it was to write
            return gone

    def kill(self, job_id: str) -> None:
        """End the attempt at this job, whatever it waits for. Its `run` then raises TaskLost."""
        if (run := self._running.get(job_id)) is None:
            return
        run.killed = True
        if run.response is not None:
            run.response.cancel()
        if run.task is not None:
            ray.cancel(run.task, force=True)

    def forget(self, job_id: str) -> None:
        """The job is over: what was drawn for it is not needed any more."""
        self._drawn.pop(job_id, None)

    def serve_is(self, session: str) -> None:
        """`session`: of the Serve that runs now. If it is another one, end all attempts: they would wait for
        ever for the one that was shut down."""
        if self._session not in (None, session):
            self._handles.clear()
            for job_id in list(self._running):
                self.kill(job_id)
        self._session = session

    def pools_are(self, pools: list[str]) -> None:
        """The application has these pools now. End the attempts that wait for a renderer of another one: they
        would wait for ever. Serve lets those finish that a renderer has."""
        self.pools = pools
        for job_id, run in list(self._running.items()):
            if needs_renderer(run.pool) and run.pool not in pools and run.task is None:
                self.kill(job_id)

    async def broadcast(self, method: str, *args: Any) -> None:
        """Tell every renderer. May miss some."""
        each = {renderer_name(pool): pool for pool in self.pools}.values()
        await asyncio.gather(*(self._tell(pool, method, *args) for pool in each))

    async def _tell(self, pool: str, method: str, *args: Any) -> None:
        with contextlib.suppress(
            RayServeException, RayError, TimeoutError, LookupError, ValueError
        ):
            answers = self._renderer(pool).broadcast(method, *args)
            async with asyncio.timeout(BROADCAST_TIMEOUT_S):
                await answers.results_async()

    def _renderer(self, pool: str) -> Any:
        """Raises ValueError or RayServeException without Serve, KeyError without the application or pool."""
        now = time.monotonic()
        asked_at, handle = self._handles.get(pool, (float("-inf"), None))
        if now - asked_at > HANDLE_CHECKED_EVERY_S:
            handle = renderer_handle(self._app_name, pool)
            self._handles[pool] = now, handle
        return handle


def _outcome_of(error: RayError) -> Outcome | None:
    """What a task's error says of its attempt; None: the attempt is lost, and nobody knows why.

    A renderer's death reaches the task as the error of its argument, and so does what a renderer raised.
    """
    root: BaseException = error
    while isinstance(root, RayTaskError) and isinstance(root.cause, BaseException):
        root = root.cause
    if isinstance(root, RayActorError):
        return _of_dead_renderer(root)
    if isinstance(root, RayError | asyncio.CancelledError):
        return None
    # A bug, of this renderer's code or of the task's. Another node may have newer code.
    return Outcome(kind="refused", reason=_short(root), error=internal_error(root))


def _of_dead_renderer(error: RayActorError) -> Outcome:
    text = str(error)
    if isinstance(error, ActorDiedError) and (
        error.preempted or "killed by `ray.kill`" in text or "its node has died" in text
    ):
        # It was told to stop, or its machine went away: no fault of what it drew.
        return Outcome(kind="stopped", reason=_short(error))
    return Outcome(kind="died", reason=_short(error))


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
