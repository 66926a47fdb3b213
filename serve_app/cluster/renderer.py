"""RendererReplica: one engine on one device, behind a Serve deployment.

Knows how a replica starts, reports and dies. Its event loop only passes events: torch has its own threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from ray import serve
from ray.exceptions import RayError

from serve_app import logs
from serve_app.catalog.models import active_model, load_models
from serve_app.cluster.handles import CALL_TIMEOUT_S, call_registry
from serve_app.cluster.replica_port import listen_on_node_address
from serve_app.config import PROJECT_ROOT, Settings
from serve_app.engine import build
from serve_app.engine.drawing import failed
from serve_app.errors import ModelChanged
from serve_app.messages import RenderEvent, Ticket
from serve_app.metrics import RayRenderMetrics
from serve_app.params import GenerationParams

FAREWELL_S = 1.0
"""A renderer whose engine has stopped exits after so many seconds: its last events are still being sent."""
ASK_EVERY_S = 2.0
"""The longest that a renderer works for a job that has ended, if it missed the broadcast."""


class RendererReplica:
    async def __init__(self, settings: dict[str, Any]) -> None:
        logs.configure()
        listen_on_node_address()
        parsed = Settings.model_validate(settings)
        self._app_name = parsed.app_name
        self._tell_loading()
        spec = active_model(parsed.model, load_models(parsed.path(parsed.models_file)))
        loop = asyncio.get_running_loop()
        self._engine = await asyncio.to_thread(
            build.build,
            spec,
            PROJECT_ROOT,
            replica=serve.get_replica_context().replica_id.unique_id,
            stall_seconds=parsed.stall_timeout_s,
            # Serve starts another replica.
            on_fault=lambda: loop.call_soon_threadsafe(loop.call_later, FAREWELL_S, os._exit, 1),
        )
        self._model = spec.name, self._engine.runner.made_by["weights"]
        self._engine.start()
        self._metrics = RayRenderMetrics()
        self._engine.drop(*await self._dead_fences())
        self._asking = asyncio.create_task(self._ask_for_disowned())

    async def render(self, ticket: Ticket) -> AsyncIterator[RenderEvent]:
        """Closing the stream drops the request."""
        params = GenerationParams.model_validate(ticket["params"])
        if (params.model, params.model_revision) != self._model:
            yield failed(ModelChanged())
            return
        async for event in self._engine.render(params, ticket):
            if event["kind"] == "image":
                self._metrics.image(params.model, event["render_seconds"], params.steps)
            yield event

    async def drop(self, epoch: int, fences: dict[str, int]) -> int:
        return self._engine.drop(epoch, fences)

    async def send_previews(self, job_id: str) -> int:
        return self._engine.send_previews(job_id)

    async def stats(self) -> dict[str, Any]:
        return self._engine.stats() | {"pid": os.getpid()}

    async def check_health(self) -> None:
        stats = self._engine.stats()
        self._metrics.live(self._model[0], stats["live"])
        if not stats["healthy"]:
            raise RuntimeError(f"no step for {stats['last_progress']:.0f} s with work at hand")

    # ---- calls to the registry ----

    def _tell_loading(self) -> None:
        """The registry tells those who wait that a renderer has started and loads its model."""
        with contextlib.suppress(ValueError, RayError):
            call_registry(self._app_name, "loading")

    async def _dead_fences(self) -> tuple[int, dict[str, int]]:
        """What to refuse: older epochs than this one, and attempts up to these fences. (0, {}) without a
        registry."""
        found: tuple[int, dict[str, int]] = (0, {})
        with contextlib.suppress(ValueError, RayError, TimeoutError):
            found = await self._ask("dropped")
        return found

    async def _ask_for_disowned(self) -> None:
        """For ever: drop what nobody waits for any more. The registry broadcasts it when a job ends, but
        broadcasts miss replicas that its handle does not know yet."""
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            if held := self._engine.holders():
                with contextlib.suppress(ValueError, RayError, TimeoutError):
                    self._engine.drop(*await self._ask("disowned", held))

    async def _ask(self, method: str, *args: Any) -> Any:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return await call_registry(self._app_name, method, *args)
