"""LauncherProcess: attempts that another process runs for the registry, which owns it: they die together.

To call a renderer and to start a task costs the registry more than all else that it does for a job. Tickets
go there, and outcomes come back, by the handful. Knows calls and answers; nothing of renderers or tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from serve_app import logs
from serve_app.cluster.attempts import Attempts, Means
from serve_app.jobs.background import Background
from serve_app.jobs.dispatcher import TaskLost
from serve_app.messages import Outcome, Ticket

log = logging.getLogger("assets.registry")

PACE_S = 0.01
"""The shortest time between two calls of a kind: what comes meanwhile goes with the next one."""
Key = tuple[str, int]  # job id and fence


class LauncherActor:
    """In the process itself."""

    def __init__(self, app_name: str, run_job_task: Any) -> None:
        logs.configure()
        self._attempts = Attempts(app_name, run_job_task)
        self._background = Background()
        self._ended: list[tuple[Key, Outcome]] = []
        self._something_ended = asyncio.Event()

    async def begin(self, attempts: list[tuple[Ticket, Means]]) -> None:
        for ticket, means in attempts:
            self._background.spawn(self._run(ticket, means))

    async def ended(self) -> list[tuple[Key, Outcome]]:
        """The attempts that ended since the last answer. Waits for one."""
        await self._something_ended.wait()
        self._something_ended.clear()
        ended, self._ended = self._ended, []
        return ended

    async def kill(self, job_id: str) -> None:
        self._attempts.kill(job_id)

    async def forget(self, job_id: str) -> None:
        self._attempts.forget(job_id)

    async def serve_is(self, session: str) -> None:
        self._attempts.serve_is(session)

    async def pools_are(self, pools: list[str]) -> None:
        self._attempts.pools_are(pools)

    async def _run(self, ticket: Ticket, means: Means) -> None:
        outcome = Outcome(kind="lost", reason="a bug of the launcher")
        try:
            outcome = await self._attempts.run(ticket, means)
        except TaskLost as error:
            outcome = Outcome(kind="lost", reason=str(error))
        finally:
            self._ended.append(((ticket["job_id"], ticket["fence"]), outcome))
            self._something_ended.set()


class LauncherProcess:
    """In the registry. `create()` starts a LauncherActor. One that dies loses its attempts, which the
    registry drives again; the next attempt starts another one."""

    def __init__(self, create: Callable[[], Any]) -> None:
        self._create = create
        self._actor: Any = None
        self._serving: asyncio.Task[None] | None = None
        self._session: str | None = None
        self._retired = False
        self._running: dict[Key, asyncio.Future[Outcome]] = {}
        self._new: dict[Key, tuple[Ticket, Means]] = {}  # not sent yet
        self._something_new = asyncio.Event()

    def __len__(self) -> int:
        return len(self._running)

    async def run(self, ticket: Ticket, means: Means) -> Outcome:
        """Run one attempt to its end. It is `lost` if that process is."""
        key = ticket["job_id"], ticket["fence"]
        ended = self._running[key] = asyncio.get_running_loop().create_future()
        self._new[key] = ticket, means
        self._something_new.set()
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve(), context=contextvars.Context())
        try:
            return await ended
        finally:
            self._running.pop(key, None)
            self._new.pop(key, None)
            self._go_if_retired()

    def kill(self, job_id: str) -> None:
        """End the attempt at this job, whatever it waits for."""
        for key, ended in list(self._running.items()):
            if key[0] != job_id:
                continue
            if self._new.pop(key, None) is not None:
                _end(ended, Outcome(kind="lost", reason="it was stopped before it began"))
            elif self._actor is not None:
                self._actor.kill.remote(job_id)

    def forget(self, job_id: str) -> None:
        if self._actor is not None:
            self._actor.forget.remote(job_id)

    def serve_is(self, session: str) -> None:
        self._session = session
        if self._actor is not None:
            self._actor.serve_is.remote(session)

    def pools_are(self, pools: list[str]) -> None:
        if self._actor is not None:
            self._actor.pools_are.remote(pools)

    def retire(self) -> None:
        """Begin nothing more, and end when the last attempt has."""
        self._retired = True
        self._go_if_retired()

    def _go_if_retired(self) -> None:
        if self._retired and not self._running and self._serving is not None:
            self._serving.cancel()

    async def _serve(self) -> None:
        """Until the process ends, or is not needed any more."""
        actor = self._actor = self._create()
        why = "its launcher was not needed any more"
        try:
            if self._session is not None:
                actor.serve_is.remote(self._session)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send(actor))
                group.create_task(self._receive(actor))
        except* RayError as errors:
            why = f"its launcher is gone: {errors.exceptions[0]}"[:300]
            log.warning("%d attempts are lost: %s", len(self._running), why)
        finally:
            self._actor = self._serving = None
            self._new.clear()
            with contextlib.suppress(RayError):
                ray.kill(
                    actor
                )  # it may only have been out of reach, with attempts that nobody waits for
            for ended in self._running.values():
                _end(ended, Outcome(kind="lost", reason=why))

    async def _send(self, actor: Any) -> None:
        while True:
            await self._something_new.wait()
            self._something_new.clear()
            new, self._new = list(self._new.values()), {}
            if new:
                await actor.begin.remote(new)
            await asyncio.sleep(PACE_S)

    async def _receive(self, actor: Any) -> None:
        while True:
            for key, outcome in await actor.ended.remote():
                if (ended := self._running.get(key)) is not None:
                    _end(ended, outcome)
            await asyncio.sleep(PACE_S)


def _end(ended: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not ended.done():  # nobody waits for it any more
        ended.set_result(outcome)
