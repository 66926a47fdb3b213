"""The registry as the actor that it is in a service, between an ingress that orders and a launcher that draws
nothing.

Calls, messages and processes are those of a service; what is left out are renderers and job tasks. Knows one
arm; rounds and words are in `bench_registry_ceiling`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, deque
from itertools import count
from pathlib import Path
from typing import Any

os.environ["RAY_AUTH_MODE"] = "disabled"  # loopback only, and gone with the benchmark
os.environ["RAY_ADDRESS"] = "local"
os.environ.setdefault("RAY_worker_niceness", "0")

import psutil
import ray

from serve_app.api.registry_client import RegistryClient
from serve_app.api.view import LocalView, follow
from serve_app.cluster.attempts import Means
from serve_app.cluster.handles import NAMESPACE, call_registry, registry_name
from serve_app.cluster.launcher_process import LauncherActor
from serve_app.cluster.registry_actor import RegistryActor, limits_of, webhooks_of
from serve_app.cluster.registry_port import REGISTRY_VERSION, ActorTransport
from serve_app.cluster.reporter import PACE_S
from serve_app.config import Settings
from serve_app.messages import DeployedPool, Deployment, Outcome, Report, Ticket, WeightFiles
from serve_app.params import DEFAULT_POOL
from tests.factories import image_file, labels, params, submission

APP = "ceiling"
BACKLOG = 400  # jobs that wait, beside those in flight
SUBMITTERS = 256


class NullLauncher(LauncherActor):
    """Admits and ends attempts, and reports as the renderers behind it would."""

    def __init__(self, in_flight: int) -> None:
        super().__init__(APP, None)
        self._in_flight = in_flight
        self._held: deque[tuple[str, int]] = deque()
        self._untold: list[tuple[str, int, float | None]] = []
        self._reporting = asyncio.create_task(self._report())

    async def begin(self, attempts: list[tuple[Ticket, Means]]) -> None:
        for ticket, _ in attempts:
            self._held.append((ticket["job_id"], ticket["fence"]))
            self._untold.append((ticket["job_id"], ticket["fence"], 0.1))
        drawn = Outcome(kind="drawn", reason="", images=[image_file()], run_s=0.1)
        while len(self._held) > self._in_flight * 3 // 4:
            self._ended.append((self._held.popleft(), drawn))
            self._something_ended.set()

    async def _report(self) -> None:
        while True:
            told, self._untold = self._untold, []
            if told:
                report = Report(admitted=told, progress=[], previews=[])
                await call_registry(APP, "report", report)
            await asyncio.sleep(PACE_S)


class NullIngress:
    """Orders, and follows the registry as so many ingresses."""

    def __init__(self, settings: dict[str, Any], watchers: int, clients: int) -> None:
        parsed = Settings.model_validate(settings)
        pool = DeployedPool(
            model="tiny",
            model_revision="0" * 12,
            gpus=0.0,
            max_in_flight=parsed.max_in_flight,
        )
        deployment = Deployment(
            session="bench",
            limits=limits_of(parsed),
            pools={DEFAULT_POOL: pool},
            nodes_on_demand=False,
            launchers=parsed.launchers,
            cpus=0.0,
            output_dir=str(parsed.output_dir),
            weights=WeightFiles(matting=None, upscalers=None),
            webhooks=webhooks_of(parsed),
        )
        self._actor = ray.get_actor(registry_name(APP), namespace=NAMESPACE)
        self._registries = [
            RegistryClient(ActorTransport(APP, self._actor, deployment)) for _ in range(watchers)
        ]
        self._order, self._numbers, self._clients = params(), count(), clients
        self._room = asyncio.Semaphore(parsed.max_in_flight + BACKLOG)
        self._lives: set[str] = set()
        self.ended = 0

    async def begin(self) -> None:
        views = [LocalView() for _ in self._registries]
        views[0].subscribers.of_owner("ann", self._see)
        self._following = [
            asyncio.create_task(follow(registry, view))
            for registry, view in zip(self._registries, views, strict=True)
        ]
        self._ordering = [asyncio.create_task(self._submit()) for _ in range(SUBMITTERS)]

    async def count(self) -> int:
        return self.ended

    def _see(self, job: Any) -> None:
        if job is not None and job["status"] == "SUCCESS" and job["job_id"] in self._lives:
            self._lives.discard(job["job_id"])
            self.ended += 1
            self._room.release()

    async def _submit(self) -> None:
        while True:
            await self._room.acquire()
            client = labels(client=f"client {next(self._numbers) % self._clients}")
            order = submission(self._order, client)
            self._lives.add(order["job_id"])
            reply = await self._registries[0].submit(order)
            assert "job" in reply, reply


class CountingRegistry(RegistryActor):
    def __init__(self, settings: dict[str, Any], in_flight: int) -> None:
        launcher: Any = ray.remote(NullLauncher)

        def create(app_name: str) -> Any:
            return launcher.options(num_cpus=0, max_concurrency=1000).remote(in_flight)

        def courier() -> Any:
            raise AssertionError("nobody orders a webhook here")

        super().__init__(settings, REGISTRY_VERSION, None, create, courier)
        self._calls: Counter[str] = Counter()

    async def call(self, method: str, *args: Any) -> Any:
        self._calls[method] += 1
        return await super().call(method, *args)

    async def call_many(self, method: str, many: list[tuple[Any, ...]]) -> list[Any]:
        self._calls[f"{method}, grouped"] += 1
        return await super().call_many(method, many)

    async def calls(self) -> dict[str, int]:
        return dict(self._calls)


def play(
    directory: Path, seconds: float, *, in_flight: int, watchers: int, clients: int
) -> dict[str, float]:
    settings = Settings(
        app_name=APP,
        output_dir=directory / "output",
        state_dir=directory / "state",
        slots=in_flight // 2,
        max_pending=10**6,
        launchers=1,
    ).model_dump(mode="json")
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20
    )
    try:
        registry_class: Any = ray.remote(CountingRegistry)
        registry = registry_class.options(
            name=registry_name(APP), namespace=NAMESPACE, num_cpus=0, max_concurrency=2000
        ).remote(settings, in_flight)
        hello: Any = ray.get(registry.hello.remote())
        ingress_class: Any = ray.remote(NullIngress)
        ingress = ingress_class.options(num_cpus=0).remote(settings, watchers, clients)
        ray.get(ingress.begin.remote())
        process = psutil.Process(hello["pid"])
        _rest(2.0)  # warm, and full
        before: Any = ray.get([ingress.count.remote(), registry.calls.remote()])
        began, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
        _rest(seconds)
        after: Any = ray.get([ingress.count.remote(), registry.calls.remote()])
        took, used = time.perf_counter() - began, sum(process.cpu_times()[:2]) - cpu
        jobs = max(1, after[0] - before[0])
        calls = sum(after[1].values()) - sum(before[1].values())
        return {
            "jobs/s": jobs / took,
            "CPU, ms a job": 1000 * used / jobs,
            "cores": used / took,
            "calls a job": calls / jobs,
        }
    finally:
        ray.shutdown()


def _rest(seconds: float) -> None:
    time.sleep(seconds)  # the clock of the workload
