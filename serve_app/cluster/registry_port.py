"""From an ingress to the registry actor: find it, replace an older one, call it.

Knows Ray's errors and turns them into ours; decides nothing about jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast

import ray
from ray import serve
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from serve_app.api.registry_client import CALL_TIMEOUT_S, WRITE_TIMEOUT_S
from serve_app.artifacts.folder import output_at
from serve_app.cluster.grouped_calls import GroupedCalls
from serve_app.cluster.handles import call_sync, registry_actor, renderer_name
from serve_app.cluster.keepers import store_name
from serve_app.config import Settings
from serve_app.errors import ConfigError, ServiceError, StoreHeld, Unavailable
from serve_app.messages import Deployment, PoolState

log = logging.getLogger("assets.cluster")

REGISTRY_VERSION = 17
"""An ingress replaces a registry of a lower version. Raise it when old registry code must not stay."""

GROUPED = {"submit": WRITE_TIMEOUT_S, "get": CALL_TIMEOUT_S}
"""Methods whose calls share a call to the actor, and the longest that it may take. They come by the hundred a
second, one of each client."""
READINESS_AGE_S = 1.0
NOT_SHARED = "output_dir is not the folder that the registry writes to: it must be the same one on every node"


class ActorTransport:
    """`api.registry_client.Transport` over an actor handle, which stays valid when Ray restarts the actor."""

    def __init__(self, app_name: str, actor: ActorHandle, deployment: Deployment) -> None:
        self._app_name, self._deployment = app_name, deployment
        self.output = output_at(deployment["output_dir"])
        self._actor: Any = actor
        self._looked_at = float("-inf")
        self._known: tuple[str | None, list[PoolState]] = None, []
        self._grouped = {
            method: GroupedCalls(partial(self._call_many, method, timeout_s))
            for method, timeout_s in GROUPED.items()
        }

    async def call(self, method: str, *args: Any, timeout_s: float) -> Any:
        if method not in self._grouped:
            return await self._wait(self._actor.call.remote(method, *args), timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._grouped[method].call(*args)
        except sqlite3.Error as error:
            raise _not_stored() from error
        except TimeoutError as error:
            raise _silent() from error

    async def _call_many(
        self, method: str, timeout_s: float, many: list[tuple[Any, ...]]
    ) -> list[Any]:
        return await self._wait(self._actor.call_many.remote(method, many), timeout_s)

    async def introduce(self) -> None:
        ref = self._actor.configure.remote(self._deployment, False)
        await self._wait(ref, timeout_s=5.0)

    async def readiness(self) -> str | None:
        return (await self._now())[0]

    async def pools(self) -> list[PoolState]:
        reason, pools = await self._now()
        if not pools:
            raise Unavailable(reason or "the job registry does not answer")
        return pools

    async def _now(self) -> tuple[str | None, list[PoolState]]:
        """Asked at most once a second: it costs a call to the registry and one to Serve's controller."""
        if time.monotonic() - self._looked_at > READINESS_AGE_S:
            self._known = await self._look()
            self._looked_at = time.monotonic()
        return self._known

    async def _look(self) -> tuple[str | None, list[PoolState]]:
        """Why no job at all would be served, and how each pool is."""
        try:
            stats = await self._wait(self._actor.stats.remote(), timeout_s=5.0)
        except Unavailable:
            return "the job registry does not answer", []
        status = await asyncio.to_thread(serve.status)
        app = status.applications.get(self._app_name)
        pools = [
            _state_of(name, pool, app and app.deployments.get(renderer_name(name)))
            for name, pool in stats["pools"].items()
        ]
        return await self._why_not_ready(stats, pools), pools

    async def _why_not_ready(self, stats: dict[str, Any], pools: list[PoolState]) -> str | None:
        if stats.get("output_trouble") is not None:
            return f"the output folder cannot be written: {stats['output_trouble']}"
        folder = stats.get("output_id")  # an older registry has none
        if folder and not await asyncio.to_thread(self.output.is_folder, folder):
            return NOT_SHARED
        if stats["paused"] in ("application", "storage", "draining"):
            return f"nothing is launched: {stats['paused']}"
        reasons = {pool["pool"]: pool["reason"] for pool in pools}
        if None in reasons.values():  # some orders are drawn
            return None
        alone = len(reasons) == 1
        return "; ".join(f"{why}" if alone else f"{pool}: {why}" for pool, why in reasons.items())

    async def _wait(self, ref: Any, timeout_s: float) -> Any:
        try:
            # Not `wait_for`: before Python 3.12 it can swallow a cancellation.
            async with asyncio.timeout(timeout_s):
                return await ref
        except RayTaskError as error:
            if isinstance(error.cause, sqlite3.Error):
                raise _not_stored() from error
            raise  # a bug in the registry
        except (RayError, TimeoutError) as error:
            if isinstance(error, ActorDiedError):
                await self._look_again()
            raise _silent() from error

    async def _look_again(self) -> None:
        """This actor is gone for good. If newer code has replaced it, the next call reaches the new one."""
        with contextlib.suppress(ValueError, RayError):
            self._actor = await asyncio.to_thread(registry_actor, self._app_name)


def _state_of(name: str, known: dict[str, Any], renderers: Any) -> PoolState:
    """`known`: what the registry knows of the pool; `renderers`: Serve's status of its deployment, if any."""

    def state(
        is_now: Literal["resident", "loading", "resting", "failed"], why: str | None
    ) -> PoolState:
        return PoolState(pool=name, model=known["model"] or "", state=is_now, reason=why)

    if known["lacking"] is not None:
        return state("failed", known["lacking"])
    if renderers is None:
        return state("failed", "no renderer is deployed")
    if cast(dict[str, int], renderers.replica_states).get("RUNNING"):
        if "/" not in name or known["held"] == "device":
            return state("resident", None)
        if known["held"] == "host":
            return state("resting", None)
    if known["load_error"] is not None:
        return state("failed", f"the model cannot be loaded: {known['load_error']}")
    if renderers.status in ("UNHEALTHY", "DEPLOY_FAILED"):
        return state("failed", "the renderer is not healthy")
    if not renderers.replica_states:
        return state("resting", None)
    if known["proven"]:  # a scale-up of weights that have been loaded before
        return state("loading", None)
    return state("loading", "the first renderer is starting, or loads its model")


def _not_stored() -> Unavailable:
    detail = "The job store cannot be written or read at the moment."
    return Unavailable(detail, code="storage_failed")


def _silent() -> Unavailable:
    return Unavailable("The job registry does not answer.")


def attach(
    settings: Settings, deployment: Deployment, create: Callable[[], ActorHandle]
) -> ActorTransport:
    """The registry of this application: `create` makes one if there is none, and one that is older than
    this code is drained and replaced. Raises StoreHeld, ConfigError or Unavailable."""
    for _ in range(3):
        actor: Any = create()
        try:
            hello = call_sync(actor.hello.remote(), 60)
        except ActorDiedError as error:
            raise _why_not_started(error) from error
        if hello["version"] >= REGISTRY_VERSION:
            break
        log.warning("replacing registry version %d", hello["version"])
        _drain(actor, settings.drain_s)
        ray.kill(actor, no_restart=True)
    else:
        raise Unavailable("an older registry cannot be replaced")
    if hello["state_dir"] != store_name(settings):
        raise ConfigError(
            "state_dir or redis_url differs from the running registry's; stop that one first"
        )
    folder = call_sync(actor.configure.remote(deployment, True), 30)
    transport = ActorTransport(settings.app_name, actor, deployment)
    if folder and not transport.output.is_folder(folder):
        raise ConfigError(NOT_SHARED)
    return transport


def _drain(actor: Any, timeout_s: float) -> None:
    """Let running jobs end, if that can be asked for; those that do not are drawn again."""
    try:
        drained = actor.drain.remote(timeout_s)
    except (
        TypeError
    ):  # Ray cannot import its class, whose modules have moved: it knows no arguments then
        log.warning("the older registry cannot be drained")
        return
    with contextlib.suppress(RayActorError):
        log.info("drained: %s", call_sync(drained, timeout_s + 10))


def _why_not_started(error: ActorDiedError) -> ServiceError:
    text = str(error)
    for kind in StoreHeld, ConfigError:
        if f"{kind.__name__}: " in text:
            return kind(text.rsplit(f"{kind.__name__}: ", 1)[-1].strip())
    return Unavailable(f"the job registry cannot start: {text[-400:]}")
