"""RayLauncher: one Ray task per attempt, owned by the registry's process, and broadcasts to the renderers.

Knows tasks, handles and Ray's errors; nothing of why an attempt is launched or stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from serve_app.cluster.handles import renderer_handle, worker_env
from serve_app.jobs.dispatcher import TaskLost
from serve_app.messages import Outcome, Ticket

BROADCAST_TIMEOUT_S = 5.0


class RayLauncher:
    """`jobs.dispatcher.Launcher`. `run_job_task(ticket, app_name, registry, output_dir)` is the remote
    function of `app.py`."""

    def __init__(
        self, app_name: str, run_job_task: Any, registry: ActorHandle, output_dir: str
    ) -> None:
        self._app_name, self._run_job_task = app_name, run_job_task
        self._registry, self._output_dir = registry, output_dir
        self._session: str | None = None
        self._running: dict[str, Any] = {}  # job id -> ref of its task

    async def run(self, ticket: Ticket) -> Outcome:
        job_id = ticket["job_id"]
        task = self._run_job_task.options(name=f"job:{job_id}", runtime_env=worker_env())
        ref = task.remote(ticket, self._app_name, self._registry, self._output_dir)
        self._running[job_id] = ref
        try:
            return await ref
        except RayError as error:
            raise TaskLost(type(error).__name__ + ": " + str(error)[:300]) from error
        finally:
            del self._running[job_id]

    def kill(self, job_id: str) -> None:
        if (ref := self._running.get(job_id)) is not None:
            ray.cancel(ref, force=True)

    def serve_is(self, session: str) -> None:
        """`session`: of the Serve that runs now. If it is another one, end all tasks: they would wait for
        ever for the one that was shut down."""
        if self._session not in (None, session):
            for job_id in self._running:
                self.kill(job_id)
        self._session = session

    async def drop(self, epoch: int, fences: dict[str, int]) -> None:
        """May miss a renderer; that one learns the same from the next attempt at the job, from the next
        epoch, or when it asks the registry."""
        await self._broadcast("drop", epoch, fences)

    async def send_previews(self, job_id: str) -> None:
        """May miss a renderer: then this attempt has no previews."""
        await self._broadcast("send_previews", job_id)

    async def _broadcast(self, method: str, *args: Any) -> None:
        with contextlib.suppress(RayServeException, RayError, TimeoutError, ValueError):
            answers = renderer_handle(self._app_name).broadcast(method, *args)
            async with asyncio.timeout(BROADCAST_TIMEOUT_S):
                await answers.results_async()
