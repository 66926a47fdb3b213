"""Why `/readyz` says that a job would not be served: from what the registry and Serve say. And how an ingress
calls the registry when there is much to ask."""

from __future__ import annotations

import asyncio
import sqlite3
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import ActorUnavailableError
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ReplicaState,
    ServeStatus,
)

from serve_app.cluster import registry_port
from serve_app.cluster.grouped_calls import MOST
from serve_app.cluster.registry_port import ActorTransport
from serve_app.errors import Unavailable


class Registry:
    """Stands for the actor's handle."""

    def __init__(self, **changes: Any) -> None:
        self.pool: dict[str, Any] = {
            "model": "tiny",
            "lacking": None,
            "load_error": None,
            "proven": False,
        }
        self.pool.update({name: changes.pop(name) for name in self.pool.keys() & changes.keys()})
        self.numbers = {"paused": None, "pools": {"default": self.pool}, **changes}
        self.asked = 0
        self.error: Exception | None = None
        self.stats = self

    def remote(self) -> Any:
        self.asked += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.error is not None:
            answer.set_exception(self.error)
        else:
            answer.set_result(self.numbers)
        return answer


def renderer(status: str = "HEALTHY", **replicas: int) -> DeploymentStatusOverview:
    """In this state."""
    return DeploymentStatusOverview(
        DeploymentStatus(status),
        DeploymentStatusTrigger.UNSPECIFIED,
        {ReplicaState(state): number for state, number in replicas.items()},
        "",
    )


def serve_status(status: str = "HEALTHY", **replicas: int) -> ServeStatus:
    """With a renderer in this state."""
    deployments = {"Renderer": renderer(status, **replicas)}
    app = ApplicationStatusOverview(ApplicationStatus.RUNNING, "", 0.0, deployments)
    return ServeStatus(applications={"assets": app})


def transport(registry: Registry) -> ActorTransport:
    actor: Any = registry
    deployment: Any = {"output_dir": "/nowhere"}
    return ActorTransport("assets", actor, deployment)


LOAD = {"load_error": "a tensor is missing"}


@pytest.mark.parametrize(
    ("numbers", "status", "reason"),
    [
        ({}, serve_status(RUNNING=1), None),
        ({}, serve_status(RUNNING=1, STARTING=1), None),
        (LOAD, serve_status(RUNNING=1, STARTING=1), None),  # one serves, another cannot load
        ({}, serve_status(STARTING=1), "the first renderer is starting, or loads its model"),
        ({"proven": True}, serve_status(STARTING=1), None),  # from zero: it has been there before
        ({"proven": True}, serve_status(), None),
        ({}, serve_status(), None),  # scaled to zero
        (LOAD, serve_status(STARTING=1), "the model cannot be loaded: a tensor is missing"),
        (LOAD, serve_status("DEPLOY_FAILED"), "the model cannot be loaded: a tensor is missing"),
        ({}, serve_status("UNHEALTHY", STARTING=1), "the renderer is not healthy"),
        ({"proven": True}, serve_status("DEPLOY_FAILED"), "the renderer is not healthy"),
        ({"lacking": "no node offers 1 GPU"}, serve_status(STARTING=1), "no node offers 1 GPU"),
        ({"paused": "application"}, serve_status(RUNNING=1), "nothing is launched: application"),
        ({"paused": "storage"}, serve_status(RUNNING=1), "nothing is launched: storage"),
        ({"paused": "draining"}, serve_status(RUNNING=1), "nothing is launched: draining"),
        ({"paused": "renderer"}, serve_status(RUNNING=1), None),  # a moment's pause
        ({}, ServeStatus(), "no renderer is deployed"),
    ],
)
async def test_why_a_job_would_not_be_served(
    monkeypatch: pytest.MonkeyPatch,
    numbers: dict[str, Any],
    status: ServeStatus,
    reason: str | None,
) -> None:
    monkeypatch.setattr(registry_port, "serve", SimpleNamespace(status=lambda: status))
    assert await transport(Registry(**numbers)).readiness() == reason


async def test_a_registry_that_does_not_answer() -> None:
    registry = Registry()
    registry.error = ActorUnavailableError("restarting", b"\x01" * 16)
    port = transport(registry)
    assert await port.readiness() == "the job registry does not answer"
    with pytest.raises(Unavailable):
        await port.pools()


async def test_one_pool_that_serves_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """And each says how it is. Where none serves, all are named."""
    deployments = {
        "Renderer-icons": renderer(RUNNING=1),
        "Renderer-scenes": renderer(STARTING=1),
        "Renderer-rest": renderer(),
    }
    app = ApplicationStatusOverview(ApplicationStatus.RUNNING, "", 0.0, deployments)
    status = ServeStatus(applications={"assets": app})
    monkeypatch.setattr(registry_port, "serve", SimpleNamespace(status=lambda: status))
    registry = Registry()
    pools = {name: {**registry.pool, "model": f"of {name}"} for name in ("icons", "scenes", "rest")}
    pools["far"] = {**registry.pool, "lacking": "no node offers 2 GPU"}
    registry.numbers["pools"] = pools
    port = transport(registry)
    assert await port.readiness() is None
    starts = "the first renderer is starting, or loads its model"
    assert [(p["pool"], p["state"], p["reason"]) for p in await port.pools()] == [
        ("icons", "resident", None),
        ("scenes", "loading", starts),
        ("rest", "resting", None),
        ("far", "failed", "no node offers 2 GPU"),
    ]
    del pools["icons"], pools["rest"]
    assert await transport(registry).readiness() == f"scenes: {starts}; far: no node offers 2 GPU"


async def test_it_is_asked_once_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone may ask `/readyz`, also without a key."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(registry_port, "time", SimpleNamespace(monotonic=lambda: clock.now))
    status = SimpleNamespace(status=lambda: serve_status(RUNNING=1))
    monkeypatch.setattr(registry_port, "serve", status)
    registry = Registry()
    port = transport(registry)
    for _ in range(10):
        assert await port.readiness() is None
    assert registry.asked == 1
    registry.numbers["paused"] = "storage"
    clock.now += registry_port.READINESS_AGE_S + 0.1
    assert await port.readiness() == "nothing is launched: storage"
    assert registry.asked == 2


# ---- calls ----


class Busy:
    """Stands for the actor's handle: a registry that knows no job, and answers looks when it is told to."""

    def __init__(self) -> None:
        self.groups: list[tuple[str, int]] = []
        self.looks = asyncio.Event()
        self.call_many = self

    def remote(self, method: str, many: list[tuple[Any, ...]]) -> Any:
        self.groups.append((method, len(many)))
        return asyncio.ensure_future(self._answer(method, many))

    async def _answer(self, method: str, many: list[tuple[Any, ...]]) -> list[Any]:
        if method == "get":
            await self.looks.wait()
            return [None] * len(many)
        return [
            sqlite3.OperationalError("disk I/O error") if order == "bad" else order
            for (order,) in many
        ]


async def test_five_thousand_polls_of_unknown_ids_neither_flood_the_registry_nor_hold_up_an_order() -> (
    None
):
    """They share few calls, one after the other. Orders have calls of their own."""
    busy = Busy()
    port = transport(cast(Any, busy))
    polls = [asyncio.create_task(port.call("get", f"{n}", timeout_s=5)) for n in range(5000)]
    await asyncio.sleep(0)
    assert await port.call("submit", "an order", timeout_s=5) == "an order"
    assert sum(method == "get" for method, _ in busy.groups) == 1
    busy.looks.set()
    assert await asyncio.gather(*polls) == [None] * 5000
    assert len(busy.groups) <= 5000 / MOST + 2


async def test_an_order_that_cannot_be_stored_is_refused_alone() -> None:
    port = transport(cast(Any, Busy()))
    orders = [asyncio.create_task(port.call("submit", o, timeout_s=5)) for o in ("a", "bad", "b")]
    assert (await orders[0], await orders[2]) == ("a", "b")
    with pytest.raises(Unavailable) as raised:
        await orders[1]
    assert raised.value.code == "storage_failed"


async def test_a_look_that_nobody_answers_is_given_up() -> None:
    port = transport(cast(Any, Busy()))
    with pytest.raises(Unavailable):
        await port.call("get", "a", timeout_s=0.01)
