"""The Ray side of every port: how registry, task, renderer and ingress reach each other.

Knows handles and Ray's errors; decides nothing about jobs. No decorator is applied here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import sqlite3
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError
from ray.serve import context
from ray.serve.exceptions import RayServeException

from serve_app.config import Settings
from serve_app.errors import ConfigError, ServiceError, StoreHeld, Unavailable
from serve_app.jobs.attempt import RegistryGone, RendererGone
from serve_app.jobs.dispatcher import TaskLost
from serve_app.messages import (
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

log = logging.getLogger("assets.cluster")

NAMESPACE = "assets"
"""Never "serve": Serve's own tools look there."""
RENDERER = "Renderer"
REGISTRY_VERSION = 3
"""Raise it whenever a registry of the old code must not go on: an ingress replaces an older one."""
SUBMIT_TIMEOUT_S = 15.0
"""Longer than any submit deadline: the registry has then refused it."""
CALL_TIMEOUT_S = 5.0
DROP_TIMEOUT_S = 5.0
ASK_EVERY_S = 2.0
"""So long a renderer may work on for a job that has ended, if it was not told."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def registry_name(app_name: str) -> str:
    return f"{app_name}-registry"


@cache
def code_version() -> str:
    """Hash of the package's Python files. In a worker's environment it keeps a process that has
    imported other code from being reused."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def worker_env(**variables: str) -> dict[str, Any]:
    """A runtime environment for processes that run this code."""
    return {"env_vars": {"ASSETS_CODE": code_version(), **variables}}


def call_sync(ref: Any, timeout_s: float | None = CALL_TIMEOUT_S) -> Any:
    return ray.get(ref, timeout=timeout_s)


def serve_session() -> str:
    """Which Serve this is: another one after it was shut down and started again. Raises ValueError
    if there is none."""
    controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    return controller._actor_id.hex()


def renderer_handle(app_name: str) -> Any:
    """Raises ValueError without Serve, RayServeException without the application.

    Serve keeps its client per process for ever: a worker that outlived `serve shutdown` would ask a
    dead controller, and wait without end.
    """
    client = context._global_client
    if client and client._controller._actor_id.hex() != serve_session():
        context._disconnect()
    return serve.get_deployment_handle(RENDERER, app_name=app_name)


# ---- ingress -> registry ----


class RayRegistryPort:
    """`api.ports.RegistryPort` over the registry actor; it comes back to a restarted one by itself."""

    def __init__(self, settings: Settings, actor: ActorHandle) -> None:
        self._settings = settings.model_dump(mode="json")
        self._actor = actor
        self._session = serve_session()
        self._epoch = 0

    async def submit(self, order: SubmitOrder) -> SubmitReply:
        return await self._call("submit", order, timeout_s=SUBMIT_TIMEOUT_S)

    async def get(self, job_id: str) -> JobView | Tombstone | None:
        return await self._call("get", job_id)

    async def cancel(self, job_id: str, owner: str) -> JobView | Tombstone | None:
        return await self._call("cancel", job_id, owner, timeout_s=SUBMIT_TIMEOUT_S)

    async def delete(self, job_id: str, owner: str) -> Tombstone | None:
        return await self._call("delete", job_id, owner, timeout_s=SUBMIT_TIMEOUT_S)

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        return await self._call("page", owner, wanted, limit, before, after)

    async def estimate(self, params: dict[str, Any], client: str) -> float | None:
        return await self._call("estimate", params, client)

    async def show(self, job_id: str) -> None:
        await self._call("show", job_id)

    async def watch(self, epoch: int, seq: int, timeout_s: float) -> WatchReply:
        reply = await self._call("watch", epoch, seq, timeout_s)
        if reply["epoch"] != self._epoch:  # a restarted registry has the settings it was born with
            await self._call("configure", self._settings, self._session, False)
            self._epoch = reply["epoch"]
        return reply

    async def readiness(self) -> str | None:
        """None, or why a job would not be drawn."""
        try:
            stats = await self._call("stats")
        except Unavailable:
            return "the job registry does not answer"
        if stats["paused"] in ("application", "storage", "draining"):
            return f"nothing is launched: {stats['paused']}"
        status = await asyncio.to_thread(serve.status)
        app = status.applications.get(self._settings["app_name"])
        renderer = app.deployments.get(RENDERER) if app else None
        if renderer is None or renderer.status in ("UNHEALTHY", "DEPLOY_FAILED"):
            return "the renderer is not healthy"
        return None

    async def _call(self, method: str, *args: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        try:
            ref = getattr(self._actor, method).remote(*args)
            # Not `wait_for`: before Python 3.12 it can swallow a cancellation.
            async with asyncio.timeout(timeout_s):
                return await ref
        except RayTaskError as error:
            if isinstance(error.cause, sqlite3.Error):
                detail = "The job store cannot be written or read at the moment."
                raise Unavailable(detail, code="storage_failed") from error
            raise  # a bug of ours
        except (RayError, TimeoutError) as error:
            if isinstance(error, ActorDiedError):
                await self._look_again()
            raise Unavailable("The job registry does not answer.") from error

    async def _look_again(self) -> None:
        """This one is gone for good. If newer code has replaced it, the next call reaches the new one."""
        name = registry_name(self._settings["app_name"])
        with contextlib.suppress(ValueError, RayError):
            self._actor = await asyncio.to_thread(ray.get_actor, name, namespace=NAMESPACE)


def attach(settings: Settings, create: Callable[[], ActorHandle]) -> RayRegistryPort:
    """The registry of this application, made if there is none, replaced if it is older than this
    code. Raises StoreHeld or ConfigError if it cannot be had."""
    for _ in range(3):
        actor = create()
        try:
            hello = call_sync(actor.hello.remote(), 60)
        except ActorDiedError as error:
            raise _why_unborn(error) from error
        if hello["version"] >= REGISTRY_VERSION:
            break
        log.warning("replacing registry version %d", hello["version"])
        with contextlib.suppress(RayActorError):
            drained = call_sync(actor.drain.remote(settings.drain_s), settings.drain_s + 10)
            log.info("drained: %s", drained)
        ray.kill(actor, no_restart=True)
    else:
        raise Unavailable("an older registry cannot be replaced")
    state_dir = str(settings.path(settings.state_dir))
    if hello["state_dir"] != state_dir:
        raise ConfigError("state_dir differs from the running registry's; stop that one first")
    port = RayRegistryPort(settings, actor)
    call_sync(actor.configure.remote(settings.model_dump(mode="json"), serve_session(), True))
    return port


def _why_unborn(error: ActorDiedError) -> ServiceError:
    text = str(error)
    if "StoreHeld" in text:
        return StoreHeld(text.rsplit("StoreHeld: ", 1)[-1].strip())
    return Unavailable(f"the job registry cannot start: {text[-400:]}")


# ---- registry -> task, registry -> renderer ----


class RayLauncher:
    """`jobs.dispatcher.Launcher`: one Ray task per attempt, owned by the registry's process."""

    def __init__(self, app_name: str, run_job: Any, registry: ActorHandle, output_dir: str) -> None:
        self._app_name, self._run_job = app_name, run_job
        self._registry, self._output_dir = registry, output_dir
        self._session: str | None = None
        self._running: dict[str, Any] = {}  # job id -> ref of its task

    async def run(self, order: LaunchOrder) -> Outcome:
        task = self._run_job.options(name=f"job:{order['job_id']}", runtime_env=worker_env())
        ref = task.remote(order, self._app_name, self._registry, self._output_dir)
        self._running[order["job_id"]] = ref
        try:
            return await ref
        except RayError as error:
            raise TaskLost(type(error).__name__ + ": " + str(error)[:300]) from error
        finally:
            del self._running[order["job_id"]]

    def kill(self, job_id: str) -> None:
        if (ref := self._running.get(job_id)) is not None:
            ray.cancel(ref, force=True)

    def serve_is(self, session: str) -> None:
        """Tasks that wait for a Serve that was shut down would wait for ever: end them."""
        if self._session not in (None, session):
            for job_id in self._running:
                self.kill(job_id)
        self._session = session

    async def drop(self, epoch: int, fences: dict[str, int]) -> None:
        """Best effort in time: an engine that does not hear of it learns the same from the next
        attempt of the job, or from the next epoch."""
        await self._tell_renderers("drop", epoch, fences)

    async def show(self, job_id: str) -> None:
        """Best effort: without it there are no previews of this attempt."""
        await self._tell_renderers("show", job_id)

    async def _tell_renderers(self, method: str, *args: Any) -> None:
        with contextlib.suppress(RayServeException, RayError, TimeoutError, ValueError):
            answers = renderer_handle(self._app_name).broadcast(method, *args)
            async with asyncio.timeout(DROP_TIMEOUT_S):
                await answers.results_async()


# ---- task -> renderer, task -> registry ----


class ServeRenderer:
    """`jobs.runner.Renderer` over the deployment's streaming handle."""

    def __init__(self, app_name: str) -> None:
        self._app_name = app_name

    def render(self, order: LaunchOrder) -> Generator[RenderEvent]:
        try:
            handle = renderer_handle(self._app_name)
            stream = handle.options(stream=True).render.remote(order)
            try:
                yield from stream
            finally:
                stream.cancel()
        except ActorDiedError as error:
            how = "stopped" if "killed by `ray.kill`" in str(error) else "crashed"
            raise RendererGone(how, str(error)[:300]) from error
        except RayActorError as error:
            raise RendererGone("crashed", str(error)[:300]) from error
        except (RayServeException, ValueError) as error:
            raise RendererGone("absent", str(error)[:300]) from error
        except RayTaskError:
            raise  # the renderer's own code failed at this job: waiting would not help
        except Exception as error:
            # Serve's router is not always tidy when its deployment goes away (a KeyError was seen).
            raise RendererGone("stopped", f"{type(error).__name__}: {error}"[:300]) from error


class RayRegistryInTask:
    """`jobs.runner.Registry` over the actor. The task dies with its registry, so nothing is retried."""

    def __init__(self, actor: ActorHandle) -> None:
        self._actor = actor

    def admitted(self, job_id: str, fence: int, solo_seconds: float | None) -> bool:
        return self._ask(self._actor.admitted.remote(job_id, fence, solo_seconds))

    def preview(self, job_id: str, fence: int, index: int, data: bytes) -> None:
        self._actor.preview.remote(job_id, fence, index, data)

    def progress(self, job_id: str, fence: int, progress: dict[str, Any]) -> None:
        self._actor.progress.remote(job_id, fence, progress)

    def finish(self, job_id: str, fence: int, images: list[ImageFile]) -> bool:
        return self._ask(self._actor.finish.remote(job_id, fence, images))

    def fail(self, job_id: str, fence: int, error: JobError) -> bool:
        return self._ask(self._actor.fail.remote(job_id, fence, error))

    def _ask(self, ref: Any) -> bool:
        try:
            return call_sync(ref, None)
        except RayError as error:
            raise RegistryGone(type(error).__name__) from error


async def dead_fences(app_name: str) -> tuple[int, dict[str, int]]:
    """What a new renderer must refuse: older epochs, and these attempts. (0, {}) without a registry."""
    try:
        actor: Any = ray.get_actor(registry_name(app_name), namespace=NAMESPACE)
        async with asyncio.timeout(DROP_TIMEOUT_S):
            return await actor.dropped.remote()
    except (ValueError, RayError, TimeoutError):
        return 0, {}


def tell_loading(app_name: str) -> None:
    """A renderer's process is there and loads its model: whoever waits for it may know."""
    with contextlib.suppress(ValueError, RayError):
        actor: Any = ray.get_actor(registry_name(app_name), namespace=NAMESPACE)
        actor.loading.remote()


async def ask_for_disowned(
    app_name: str,
    holders: Callable[[], dict[str, int]],
    drop: Callable[[int, dict[str, int]], int],
) -> None:
    """For ever: ask the registry whether anybody still waits for what is being drawn. It says so itself
    when a job ends, but a handle that has just been made, or a replica, may be unknown to the other
    side for a moment, and then that word is lost."""
    while True:
        await asyncio.sleep(ASK_EVERY_S)
        if held := holders():
            with contextlib.suppress(ValueError, RayError, TimeoutError):
                actor: Any = ray.get_actor(registry_name(app_name), namespace=NAMESPACE)
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    drop(*await actor.disowned.remote(held))


# ---- what the cluster is like ----


def gpus_per_replica(settings: Settings) -> float:
    if settings.num_gpus == "auto":
        return 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    return settings.num_gpus


def refuse_open_bind(settings: Settings) -> None:
    """Raises ConfigError if strangers could reach the service and no key would be asked of them."""
    if settings.api_keys_file is not None:
        return
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1":
        raise ConfigError(
            "RAY_SERVE_ENABLE_HA_PROXY=1 listens on every interface: set api_keys_file"
        )
    controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    host = call_sync(controller.get_http_config.remote()).host
    if host is not None and host not in LOOPBACK:
        raise ConfigError(
            f"http_options.host is {host}: without api_keys_file only {', '.join(LOOPBACK)} are allowed"
        )
