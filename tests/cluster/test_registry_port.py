"""Why `/readyz` says that a job would not be served: from what the registry and Serve say."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

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
from serve_app.cluster.registry_port import ActorTransport


class Registry:
    """Stands for the actor's handle."""

    def __init__(self, **changes: Any) -> None:
        self.numbers = dict[str, Any](
            {"paused": None, "lacking": None, "load_error": None, "proven": False} | changes
        )
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


def serve_status(status: str = "HEALTHY", **replicas: int) -> ServeStatus:
    """With a renderer in this state."""
    renderer = DeploymentStatusOverview(
        DeploymentStatus(status),
        DeploymentStatusTrigger.UNSPECIFIED,
        {ReplicaState(state): number for state, number in replicas.items()},
        "",
    )
    app = ApplicationStatusOverview(ApplicationStatus.RUNNING, "", 0.0, {"Renderer": renderer})
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
    assert await transport(registry).readiness() == "the job registry does not answer"


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
