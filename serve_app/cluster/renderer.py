"""RendererReplica: one engine on one device, behind a Serve deployment, for the models of its pool.

Knows how a replica starts, reports and dies. Its event loop only passes events: torch has its own threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from typing import Any

from pydantic import ValidationError
from ray.exceptions import RayError

from serve_app import logs
from serve_app.artifacts.disk import why
from serve_app.artifacts.folder import output_at
from serve_app.catalog.models import Models, active_model, load_models, without_folders
from serve_app.cluster.handles import CALL_TIMEOUT_S, call_registry
from serve_app.cluster.replica_port import listen_on_node_address
from serve_app.cluster.reporter import Reporter
from serve_app.config import PROJECT_ROOT, Settings
from serve_app.engine import build
from serve_app.engine.controls import PREPARE
from serve_app.engine.drawing import failed
from serve_app.engine.engine import Engine
from serve_app.engine.late_models import LateModels
from serve_app.engine.sources import SourcePixels, source_pixels
from serve_app.errors import (
    Dropped,
    ModelChanged,
    NotLoaded,
    ServiceError,
    SourceMissing,
    StorageFailed,
)
from serve_app.messages import HeldModel, Rendered, RenderedImage, Ticket
from serve_app.metrics import RayRenderMetrics
from serve_app.params import GenerationParams

log = logging.getLogger("assets.renderer")

FAREWELL_S = 1.0
"""A renderer whose engine has stopped exits after so many seconds: its last answers are still being sent."""
NOT_NOTED = "the registry has not noted that it is under way"
LOOK_EVERY_S = 2.0
"""The longest that a renderer works for a job that has ended, if it missed the broadcast; and so often it
looks whether its engine still moves."""


class RendererReplica:
    """`settings`: those of its pool; `models`: what the pool draws. Both as `catalog.pools` makes them."""

    async def __init__(self, settings: dict[str, Any], models: list[str]) -> None:
        logs.configure()
        listen_on_node_address()
        parsed = self._settings = Settings.model_validate(settings)
        self._app_name, self._names = parsed.app_name, models
        self._id = uuid.uuid4().hex
        self._output = parsed.output_address
        self._metrics = RayRenderMetrics()
        for name in models:
            self._tell("loading", name)
        self._catalogue: Models | None = None
        try:
            self._catalogue = load_models(parsed.path(parsed.models_file))
            self._engine = await self._build(self._catalogue)
        except Exception as error:
            for name in models:
                self._tell("load_failed", self._why(error), name)
            raise
        for name, seconds in self._engine.brought.items():
            self._metrics.switched(name, seconds)
        self._engine.start()
        self._engine.drop(*await self._dead_fences())
        self._told = self._tell_state()
        self._late = LateModels(self._engine, self._catalogue, PROJECT_ROOT)
        self._reporter = Reporter(self._app_name, lambda fences: self._engine.drop(0, fences))
        self._looking = asyncio.create_task(self._look())

    async def _build(self, catalogue: Models) -> Engine:
        loop, settings = asyncio.get_running_loop(), self._settings
        hooks: dict[str, Any] = {
            "stall_seconds": settings.stall_timeout_s,
            "on_fault": lambda: loop.call_soon_threadsafe(self._exit_soon),
        }
        if len(self._names) == 1:
            spec = active_model(self._names[0], catalogue)
            hooks |= {"loras": catalogue.loras, "embeddings": catalogue.embeddings}
            return await asyncio.to_thread(build.build, spec, PROJECT_ROOT, **hooks)
        return await asyncio.to_thread(
            build.build_several,
            self._names,
            catalogue,
            PROJECT_ROOT,
            share=settings.weights_share,
            on_switch=lambda *switch: loop.call_soon_threadsafe(self._switched, *switch),
            **hooks,
        )

    def _why(self, error: Exception) -> str:
        """Why no model could be loaded, fit to be shown to anyone."""
        if isinstance(error, ServiceError):
            log.error("the model cannot be loaded: %s", error.detail)
            return self._shown(error.detail)
        log.exception("the model cannot be loaded")
        return f"{type(error).__name__}; see the log of the renderer"

    def _shown(self, detail: str) -> str:
        return without_folders(detail, list((self._catalogue or {}).values()))

    async def render(self, ticket: Ticket) -> Rendered:
        """All images of one attempt, or why there are none. Its progress goes through the reporter."""
        try:
            params = GenerationParams.model_validate(ticket["params"])
        except ValidationError:  # of newer code
            return Rendered(
                images=[], failed=failed(ModelChanged("This renderer is of older code."))
            )
        if params.model in self._engine.failed:
            return Rendered(images=[], failed=failed(NotLoaded()))
        if self._engine.served.get(params.model) != params.model_revision:
            return Rendered(images=[], failed=failed(ModelChanged()))
        try:
            source = None
            if params.has_pictures:  # a thread for nothing is dear
                source = await asyncio.to_thread(self._source, params, ticket)
        except (SourceMissing, StorageFailed) as error:
            return Rendered(images=[], failed=failed(error))
        attempt = ticket["job_id"], ticket["fence"]
        images: list[RenderedImage] = []
        try:
            async with contextlib.aclosing(self._engine.render(params, ticket, source)) as events:
                async for event in events:
                    match event["kind"]:
                        case "admitted":
                            if not await self._admitted(ticket, event.get("solo_seconds")):
                                return Rendered(images=[], failed=failed(Dropped(NOT_NOTED)))
                        case "progress":
                            self._reporter.progress(*attempt, event)
                        case "preview":
                            self._reporter.preview(*attempt, event)
                        case "image":
                            self._metrics.image(
                                params.model, event["render_seconds"], params.drawn_steps
                            )
                            images.append(event)
                        case "failed":
                            return Rendered(images=[], failed=event)
            return Rendered(images=images, failed=None)
        finally:
            self._reporter.forget(*attempt)

    def _source(self, params: GenerationParams, ticket: Ticket) -> SourcePixels:
        """What the order is drawn from. Raises SourceMissing, and StorageFailed where this node does not see
        the folder of the registry, or cannot read there."""
        folder = ticket.get("folder")
        output = output_at(folder["path"] if folder else self._output)
        if folder and not output.is_folder(folder["id"]):
            raise StorageFailed("this node does not see the output folder of the registry")
        try:
            picture, mask = (
                None if use is None else output.uploads.read(use.upload_id, use.sha256)
                for use in (params.init_image, params.mask_image)
            )
            controls = [
                (output.uploads.read(use.image.upload_id, use.image.sha256), PREPARE[use.prepare])
                for use in params.control
            ]
            look = params.reference and params.reference.image
            shown = None if look is None else output.uploads.read(look.upload_id, look.sha256)
        except OSError as error:
            raise StorageFailed(f"a picture could not be read: {why(error)}") from error
        return source_pixels(picture, mask, (params.width, params.height), controls, shown)

    async def _admitted(self, ticket: Ticket, solo_seconds: float | None) -> bool:
        """Whether the attempt may go on. One alone waits until the registry knows that it was the only one
        under way: if this process dies then, it is the one to blame, and nobody who waited for a turn is."""
        attempt = ticket["job_id"], ticket["fence"]
        if ticket["alone"]:
            return await self._reporter.noted(*attempt, solo_seconds)
        self._reporter.admitted(*attempt, solo_seconds)
        return True

    async def drop(self, epoch: int, fences: dict[str, int]) -> int:
        return self._engine.drop(epoch, fences)

    async def send_previews(self, job_id: str) -> int:
        return self._engine.send_previews(job_id)

    async def stats(self) -> dict[str, Any]:
        return self._engine.stats() | {"pid": os.getpid()}

    async def check_health(self) -> None:
        stats = self._engine.stats()
        for name, live in self._engine.live_of_models().items():
            self._metrics.live(name, live)
        for name, resident in self._engine.places().items():
            self._metrics.resident(name, resident)
        if not stats["healthy"]:
            raise RuntimeError(
                f"the engine has failed; its last step was {stats['last_progress']:.0f} s ago"
            )

    # ---- its end ----

    async def _look(self) -> None:
        """For ever: end a process whose engine hangs, and drop what nobody waits for any more. The registry
        broadcasts the latter when a job ends, but broadcasts miss replicas that its handle does not know."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._engine.healthy:
                self._engine.give_up()
                self._exit_soon()
                return
            if not self._told or len(self._names) > 1:  # there was no registry yet; or it changes
                self._told = self._tell_state()
            self._late.look()
            if held := self._engine.holders():
                try:
                    self._engine.drop(*await self._ask("disowned", held))
                except Exception as error:  # nothing may end this loop: a hung engine would stay
                    log.warning("the registry does not say what has ended: %s", error)

    def _exit_soon(self) -> None:
        """Serve starts another replica. To wait until Serve finds out by itself would cost minutes, and it
        would look as if the replica had been told to stop."""
        asyncio.get_running_loop().call_later(FAREWELL_S, os._exit, 1)

    def _switched(self, model: str, seconds: float) -> None:
        self._metrics.switched(model, seconds)
        self._tell_state()

    # ---- calls to the registry ----

    def _tell_state(self) -> bool:
        """What this renderer has. False: there is no registry."""
        engine = self._engine
        if len(self._names) == 1:
            return self._tell("ready", *next(iter(engine.served.items())))
        served, failed = dict(engine.served), dict(engine.failed)  # another thread may change them
        places = engine.places()
        held = {
            name: HeldModel(revision=revision, on_device=places.get(name, False), why=None)
            for name, revision in served.items()
        }
        for name, reason in failed.items():
            held[name] = HeldModel(revision="", on_device=False, why=self._shown(reason))
        return self._tell("holds", self._id, held)

    def _tell(self, method: str, *args: Any) -> bool:
        """Nobody waits for the answer. False: there is no registry."""
        with contextlib.suppress(ValueError, RayError):
            call_registry(self._app_name, method, *args)
            return True
        return False

    async def _dead_fences(self) -> tuple[int, dict[str, int]]:
        """What to refuse: older epochs than this one, and attempts up to these fences. (0, {}) without a
        registry."""
        found: tuple[int, dict[str, int]] = (0, {})
        with contextlib.suppress(ValueError, RayError, TimeoutError):
            found = await self._ask("dropped")
        return found

    async def _ask(self, method: str, *args: Any) -> Any:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return await call_registry(self._app_name, method, *args)
