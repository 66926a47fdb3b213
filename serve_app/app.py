"""Composition root: typed arguments in, a Serve application out. Ray decorators are applied only here.

Knows which part gets which; what the parts do is in `api/`, `jobs/` and `engine/`.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import ray
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from serve_app import cluster, logs
from serve_app.artifacts import OutputDir
from serve_app.catalog.models import Models, ModelSpec, load_models
from serve_app.catalog.revision import weights_revision
from serve_app.catalog.styles import load_styles
from serve_app.config import INGRESS_REQUESTS, PROJECT_ROOT, Settings
from serve_app.errors import ModelChanged, ModelError
from serve_app.jobs.attempt import run_job
from serve_app.jobs.registry import JobRegistry, Limits
from serve_app.jobs.startup import opened
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import (
    PATIENCE_OF,
    ImageFile,
    JobError,
    JobFilter,
    JobPage,
    JobView,
    LaunchOrder,
    Outcome,
    RenderEvent,
    SubmitOrder,
    SubmitReply,
    Tombstone,
    WatchReply,
)
from serve_app.metrics import RayJobMetrics, RayRenderMetrics
from serve_app.params import GenerationParams

FAREWELL_S = 1.0
"""Seconds that a renderer whose engine has stopped lives on."""


def build(args: Settings | dict[str, Any]) -> Application:
    """`import_path: serve_app.app:build`. Raises before anything is deployed if an argument or a
    file is wrong, or the model is missing. (Ray passes a dict: it cannot read a postponed annotation.)
    """
    settings = Settings.model_validate(args)
    models = load_models(settings.path(settings.models_file))
    load_styles(settings.path(settings.styles_file), models)
    weights_revision(active_model(settings, models), PROJECT_ROOT)
    dumped = settings.model_dump(mode="json")
    renderer = Renderer.options(**renderer_options(settings)).bind(dumped)
    ingress = Ingress.options(
        num_replicas=settings.ingress_replicas,
        ray_actor_options={"num_cpus": 0.1, "runtime_env": cluster.worker_env()},
    )
    return ingress.bind(dumped, renderer)


def active_model(settings: Settings, models: Models) -> ModelSpec:
    name = settings.model or models.default
    if name not in models:
        raise ModelError(f"model {name!r} is not in {settings.models_file}: {', '.join(models)}")
    return models[name]


def renderer_options(settings: Settings) -> dict[str, Any]:
    """Deployment options of the renderer, all from the typed arguments."""
    return {
        "max_ongoing_requests": settings.slots + 2,
        "graceful_shutdown_timeout_s": settings.shutdown_grace_s,
        "autoscaling_config": {
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.slots,
            "upscale_delay_s": settings.upscale_delay_s,
            "downscale_delay_s": settings.downscale_delay_s,
            "downscale_to_zero_delay_s": settings.scale_to_zero_delay_s,
            "upscaling_factor": 2.0,
            "metrics_interval_s": settings.autoscaling_interval_s,
            "look_back_period_s": 3 * settings.autoscaling_interval_s,
        },
        "ray_actor_options": {
            "num_cpus": settings.num_cpus,
            "num_gpus": cluster.gpus_per_replica(settings),
            "runtime_env": cluster.worker_env(),
        },
    }


@serve.deployment(name="Ingress", max_ongoing_requests=INGRESS_REQUESTS, health_check_period_s=5)
@serve.ingress()  # pyright: ignore[reportUntypedClassDecorator]
class Ingress:
    """HTTP. Owns no job: it validates, resolves, and asks the registry."""

    def __init__(self, settings: dict[str, Any], renderer: DeploymentHandle) -> None:
        logs.configure()
        self._settings = Settings.model_validate(settings)
        self._renderer = renderer  # bound so that it is deployed; jobs reach it by name
        cluster.refuse_open_bind(self._settings)
        self._registry = cluster.attach(self._settings, self._create_registry)

    def _create_registry(self) -> Any:
        actor = cast(Any, Registry).options(
            name=cluster.registry_name(self._settings.app_name),
            namespace=cluster.NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=2000,
            num_cpus=0,
            resources={"node:__internal_head__": 0.001},  # SQLite: one node's own disk, always
            runtime_env=cluster.worker_env(),
        )
        return actor.remote(self._settings.model_dump(mode="json"), cluster.REGISTRY_VERSION)

    def __serve_build_asgi_app__(self) -> Any:
        from serve_app.api.asgi import create_app

        models = load_models(self._settings.path(self._settings.models_file))
        return create_app(
            self._settings,
            self._registry,
            styles=load_styles(self._settings.path(self._settings.styles_file), models),
            models=models,
            active=active_model(self._settings, models).name,
            revision_of=lambda name: weights_revision(models[name], PROJECT_ROOT),
        )


@serve.deployment(name=cluster.RENDERER, health_check_period_s=10, health_check_timeout_s=30)
class Renderer:
    """One engine on one device. The event loop only passes events; torch has its own thread."""

    async def __init__(self, settings: dict[str, Any]) -> None:
        from serve_app.engine import build
        from serve_app.engine import drawing as orders

        logs.configure()
        parsed = Settings.model_validate(settings)
        cluster.tell_loading(parsed.app_name)
        spec = active_model(parsed, load_models(parsed.path(parsed.models_file)))
        self._failed = orders.failed
        loop = asyncio.get_running_loop()
        self._engine = await asyncio.to_thread(
            build.build,
            spec,
            PROJECT_ROOT,
            replica=serve.get_replica_context().replica_id.unique_id,
            stall_seconds=parsed.stall_timeout_s,
            # Serve starts another replica; a moment later, so that what it said last is still sent.
            on_fault=lambda: loop.call_soon_threadsafe(loop.call_later, FAREWELL_S, os._exit, 1),
        )
        self._model = spec.name, self._engine.runner.made_by["weights"]
        self._engine.start()
        self._metrics = RayRenderMetrics()
        self._engine.drop(*await cluster.dead_fences(parsed.app_name))
        asking = cluster.ask_for_disowned(parsed.app_name, self._engine.holders, self._engine.drop)
        self._asking = asyncio.create_task(asking)

    async def render(self, order: LaunchOrder) -> AsyncIterator[RenderEvent]:
        """Events of `messages.RenderEvent`; closing the stream drops the request."""
        params = GenerationParams.model_validate(order["params"])
        if (params.model, params.model_revision) != self._model:
            yield self._failed(ModelChanged())
            return
        events = self._engine.render(
            params,
            job_id=order["job_id"],
            epoch=order["epoch"],
            fence=order["fence"],
            alone=order["alone"],
            preview=order.get("preview", False),
            patience=PATIENCE_OF[order.get("priority", "normal")],
        )
        async for event in events:
            if event["kind"] == "image":
                self._metrics.image(params.model, event["render_seconds"], params.steps)
            yield event

    async def drop(self, epoch: int, fences: dict[str, int]) -> int:
        return self._engine.drop(epoch, fences)

    async def show(self, job_id: str) -> int:
        return self._engine.show(job_id)

    async def stats(self) -> dict[str, Any]:
        return self._engine.stats() | {"pid": os.getpid()}

    async def check_health(self) -> None:
        stats = self._engine.stats()
        self._metrics.live(self._model[0], stats["live"])
        if not stats["healthy"]:
            raise RuntimeError(f"no step for {stats['last_progress']:.0f} s with work at hand")


@ray.remote
class Registry:
    """`jobs.registry.JobRegistry` as a detached actor: it outlives every deployment."""

    def __init__(self, settings: dict[str, Any], version: int) -> None:
        logs.configure()
        parsed = Settings.model_validate(settings)
        self._version, self._state_dir = version, str(parsed.path(parsed.state_dir))
        output_dir = str(parsed.path(parsed.output_dir))
        this = ray.get_runtime_context().current_actor
        self._launcher = cluster.RayLauncher(parsed.app_name, run_job_task, this, output_dir)

        output, metrics = OutputDir(Path(output_dir)), RayJobMetrics(parsed.app_name)

        def open_store() -> SqliteStore:
            return SqliteStore(parsed.path(parsed.state_dir))

        def registry_on(store: SqliteStore) -> JobRegistry:
            return JobRegistry(store, self._launcher, output, metrics, _limits(parsed))

        # At the first start whoever deploys is told what is wrong. An actor that fails in a later life is
        # never started again: then it tries until the disk is there.
        reborn = ray.get_runtime_context().was_current_actor_reconstructed
        store = None if reborn else open_store()
        self._opening = asyncio.get_running_loop().create_task(
            opened(open_store, registry_on, store), context=contextvars.Context()
        )

    async def _registry(self) -> JobRegistry:
        return await asyncio.shield(self._opening)

    async def hello(self) -> dict[str, Any]:
        registry = await self._registry()
        return {
            "version": self._version,
            "epoch": registry.epoch,
            "state_dir": self._state_dir,
            "pid": os.getpid(),
        }

    async def configure(self, settings: dict[str, Any], session: str, came_up: bool) -> None:
        self._launcher.serve_is(session)
        registry = await self._registry()
        registry.configure(_limits(Settings.model_validate(settings)))
        if came_up:
            registry.deployed()
        registry.resume()

    async def drain(self, timeout_s: float) -> bool:
        return await (await self._registry()).drain(timeout_s)

    async def submit(self, order: SubmitOrder) -> SubmitReply:
        return await (await self._registry()).submit(order)

    async def cancel(self, job_id: str, owner: str) -> JobView | Tombstone | None:
        return await (await self._registry()).cancel(job_id, owner)

    async def delete(self, job_id: str, owner: str) -> Tombstone | None:
        return await (await self._registry()).delete(job_id, owner)

    async def get(self, job_id: str) -> JobView | Tombstone | None:
        return await (await self._registry()).get(job_id)

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        return await (await self._registry()).page(owner, wanted, limit, before, after)

    async def estimate(self, params: dict[str, Any], client: str) -> float | None:
        return (await self._registry()).estimate(params, client)

    async def show(self, job_id: str) -> None:
        await (await self._registry()).show(job_id)

    async def disowned(self, holders: dict[str, int]) -> tuple[int, dict[str, int]]:
        registry = await self._registry()
        return registry.epoch, registry.disowned(holders)

    async def loading(self) -> None:
        (await self._registry()).loading()

    async def watch(self, epoch: int, seq: int, timeout_s: float) -> WatchReply:
        return await (await self._registry()).watch(epoch, seq, timeout_s)

    async def admitted(self, job_id: str, fence: int, solo_seconds: float | None = None) -> bool:
        return await (await self._registry()).admitted(job_id, fence, solo_seconds)

    async def progress(self, job_id: str, fence: int, progress: dict[str, Any]) -> bool:
        return await (await self._registry()).progress(job_id, fence, progress)

    async def preview(self, job_id: str, fence: int, index: int, data: bytes) -> bool:
        return await (await self._registry()).preview(job_id, fence, index, data)

    async def finish(self, job_id: str, fence: int, images: list[ImageFile]) -> bool:
        return await (await self._registry()).finish(job_id, fence, images)

    async def fail(self, job_id: str, fence: int, error: JobError) -> bool:
        return await (await self._registry()).fail(job_id, fence, error)

    async def dropped(self) -> tuple[int, dict[str, int]]:
        registry = await self._registry()
        return registry.epoch, registry.dropped()

    async def stats(self) -> dict[str, Any]:
        return (await self._registry()).stats() | {"pid": os.getpid()}


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_in_flight=settings.max_in_flight,
        max_pending=settings.max_pending,
        max_attempts=settings.max_attempts,
        slots=settings.max_replicas * settings.slots,
        cached_jobs=settings.cached_jobs,
        idempotency_s=settings.idempotency_hours * 3600,
        retention_s=settings.retention_days and settings.retention_days * 86_400,
        client_weights=settings.client_weights,
    )


@ray.remote(max_retries=0, num_cpus=0.05)
def run_job_task(order: LaunchOrder, app_name: str, registry: Any, output_dir: str) -> Outcome:
    """One attempt. Never retried by Ray: the registry alone counts attempts."""
    logs.configure()
    return run_job(
        order,
        cluster.ServeRenderer(app_name),
        cluster.RayRegistryInTask(registry),
        OutputDir(Path(output_dir)),
    )
