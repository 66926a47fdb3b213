"""RegistryActor: `jobs.registry.JobRegistry` in a process of its own, which outlives every deployment.

Knows how the actor opens its store, and which of the registry's methods other processes may call.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray

from serve_app import logs
from serve_app.artifacts.folder import OutputDir, output_at
from serve_app.cluster.attempts import Attempts
from serve_app.cluster.courier import CourierProcess
from serve_app.cluster.handles import collect_rarely
from serve_app.cluster.keepers import keeper_of, store_name
from serve_app.cluster.launcher import RayLauncher
from serve_app.cluster.vitals import Vitals
from serve_app.config import Settings
from serve_app.jobs.limits import RegistryLimits
from serve_app.jobs.registry import JobRegistry
from serve_app.jobs.startup import open_registry
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import DeployedPool, Deployment, WebhookSettings
from serve_app.metrics import RayJobMetrics, RayVitalMetrics
from serve_app.params import DEFAULT_POOL

FOR_INGRESSES = (
    "submit", "known", "cancel", "change", "delete", "get", "page", "estimate", "send_previews", "watch",
    "changes", "submit_batch", "known_batch", "retry_batch", "cancel_batch", "plan_batch", "batch", "batches",
    "batch_rows", "deliveries", "redeliver", "test_webhook", "usage",
)  # fmt: skip
FOR_RENDERERS = ("loading", "load_failed", "ready", "holds", "report", "dropped", "disowned")
CALLABLE = frozenset((*FOR_INGRESSES, *FOR_RENDERERS))


OUTPUT_NOTE = "output_dir"
"""A file in `state_dir`: the newest output folder."""

log = logging.getLogger("assets.registry")


class RegistryActor:
    """`version`: of the code that created it. `run_job_task`: the remote function that runs an attempt.
    `create_launcher(app_name)` starts a `LauncherActor`, `create_courier()` a `CourierActor`."""

    _store: SqliteStore  # that was opened last
    _reporting: asyncio.Task[None]  # kept: asyncio itself holds tasks only weakly

    def __init__(
        self,
        settings: dict[str, Any],
        version: int,
        run_job_task: Any,
        create_launcher: Callable[[str], Any],
        create_courier: Callable[[], Any],
    ) -> None:
        logs.configure()
        collect_rarely()
        parsed = Settings.model_validate(settings)
        self._version, self._kept_in = version, store_name(parsed)
        restarted = ray.get_runtime_context().was_current_actor_reconstructed
        self._output_note = parsed.path(parsed.state_dir) / OUTPUT_NOTE
        # Ray restarts an actor with the arguments of its creation, and output_dir may be another one since.
        output_dir = _noted(self._output_note) if restarted else ""
        output_dir = output_dir or parsed.output_address
        attempts = Attempts(parsed.app_name, run_job_task)
        attempts.pools = list(parsed.pools) or attempts.pools
        self._launcher = RayLauncher(
            attempts,
            output_dir,
            lambda: create_launcher(parsed.app_name),
        )
        self._launcher.use(parsed.launchers)
        self._courier = CourierProcess(create_courier, webhooks_of(parsed))
        metrics = RayJobMetrics(parsed.app_name)
        vitals = Vitals(
            RayVitalMetrics(parsed.app_name),
            metrics,
            parsed.path(parsed.state_dir),
            lambda: self._launcher.output.path,
        )

        def open_store() -> SqliteStore:
            return SqliteStore(keeper_of(parsed, end_process))

        def registry_on(store: SqliteStore) -> JobRegistry:
            self._store = store
            return JobRegistry(
                store,
                self._launcher,
                self._launcher.output,
                metrics,
                RegistryLimits(**limits_of(parsed)),
                self._courier,
            )

        async def opened(store: SqliteStore | None) -> JobRegistry:
            registry = await open_registry(open_store, registry_on, store)
            reporting = vitals.report(registry, self._store)
            self._reporting = asyncio.get_running_loop().create_task(reporting)
            return registry

        # A first start that cannot open the store fails at once, and whoever deploys is told why. A restart
        # must not fail, since Ray would not try another: it goes on trying until the disk is there.
        store = None if restarted else open_store()
        self._opening = asyncio.get_running_loop().create_task(
            opened(store), context=contextvars.Context()
        )

    async def call(self, method: str, *args: Any) -> Any:
        """A method of the registry. Raises ValueError unless it is one of `CALLABLE`."""
        if method not in CALLABLE:
            raise ValueError(f"the registry has no method {method!r} for others")
        result = getattr(await self._registry(), method)(*args)
        return await result if inspect.isawaitable(result) else result

    async def call_many(self, method: str, many: list[tuple[Any, ...]]) -> list[Any]:
        """`call` with each of these arguments, all at the same time. In the place of a result there is the
        exception that a call ended with: one must not fail the others."""
        calls = (self.call(method, *args) for args in many)
        return await asyncio.gather(*calls, return_exceptions=True)

    async def hello(self) -> dict[str, Any]:
        """Who this is. Answers when the store is open."""
        registry = await self._registry()
        return {
            "version": self._version,
            "epoch": registry.epoch,
            "state_dir": self._kept_in,
            "pid": os.getpid(),
        }

    async def configure(self, deployment: Deployment, came_up: bool) -> str:
        """An ingress says what holds now. `came_up`: it is new. Returns the id of the output folder; empty:
        it cannot be written now."""
        self._launcher.serve_is(deployment["session"])
        pools = pools_in(deployment)
        self._launcher.needs(
            {name: pool["gpus"] for name, pool in pools.items()},
            nodes_on_demand=deployment["nodes_on_demand"],
        )
        if "launchers" in deployment:
            self._launcher.use(deployment["launchers"])
            self._launcher.leave(deployment["cpus"])
        if "weights" in deployment:
            self._launcher.weights = deployment["weights"]
        if "webhooks" in deployment:
            self._courier.use(deployment["webhooks"])
        registry = await self._registry()
        output = await self._store_in(registry, deployment["output_dir"])
        registry.configure(deployment["limits"])
        registry.serves(pools)
        if came_up:
            registry.deployed()
        registry.resume()
        if output.trouble is not None:
            registry.wait_for_storage()
        return output.id

    async def _store_in(self, registry: JobRegistry, output_dir: str) -> OutputDir:
        """Without a folder that can be written jobs wait, and it is tried again: a full disk must not keep an
        ingress from showing what there is."""
        output = self._launcher.output
        if output.path != output_dir:
            log.warning("files are stored in %s from now on", output_dir)
            output = output_at(output_dir)
        with contextlib.suppress(OSError):  # `trouble` says it
            await asyncio.to_thread(output.probe)
        if output is not self._launcher.output:
            self._launcher.output = output
            registry.store_in(output)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._output_note.write_text, output_dir)
        return output

    async def drain(self, timeout_s: float) -> bool:
        return await (await self._registry()).drain(timeout_s)

    async def stats(self) -> dict[str, Any]:
        output = self._launcher.output
        # While the output cannot be written no job is launched, so none would notice that it works again.
        if output.trouble is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(output.probe)
        return (await self._registry()).stats() | {
            "pid": os.getpid(),
            "output_id": output.id,
            "output_trouble": output.trouble,
        }

    async def _registry(self) -> JobRegistry:
        return await asyncio.shield(self._opening)


def end_process(why: str) -> None:
    """Another registry is the writer now. Whatever this one still has in flight is done again there, so it
    ends as it is; Ray starts another, which waits for the store. `why` is in the log."""
    logging.shutdown()
    os._exit(1)


def _noted(note: Path) -> str:
    try:
        return note.read_text()
    except OSError:
        return ""


def pools_in(deployment: Mapping[str, Any]) -> dict[str, DeployedPool]:
    """By name. An application of code that knew no pools has one."""
    if "pools" in deployment:
        return deployment["pools"]
    only = DeployedPool(
        model=deployment["model"],
        model_revision=deployment["model_revision"],
        gpus=deployment["gpus"],
        max_in_flight=deployment["limits"]["max_in_flight"],
    )
    return {DEFAULT_POOL: only}


def limits_of(settings: Settings) -> dict[str, Any]:
    """Fields of RegistryLimits."""
    return {
        "max_in_flight": settings.max_in_flight,
        "cpu_slots": settings.cpu_slots,
        "max_pending": settings.max_pending,
        "max_attempts": settings.max_attempts,
        "cached_jobs": settings.cached_jobs,
        "idempotency_s": settings.idempotency_hours * 3600,
        "retention_s": settings.retention_days and settings.retention_days * 86_400,
        "client_weights": settings.client_weights,
    }


def webhooks_of(settings: Settings) -> WebhookSettings:
    def path(given: Path | None) -> str | None:
        return None if given is None else str(settings.path(given))

    return WebhookSettings(
        file=path(settings.webhooks_file),
        networks=settings.webhook_networks,
        ca_file=path(settings.webhook_ca_file),
    )
