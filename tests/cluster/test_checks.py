"""Whether the nodes that there are could hold a renderer."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.cluster import checks
from serve_app.cluster.attempts import Attempts
from serve_app.cluster.checks import SMALL_TASK_CPUS, TASK_CPUS, lacking_gpus
from serve_app.cluster.launcher import RayLauncher
from serve_app.params import DEFAULT_POOL


def node(*, alive: bool = True, **resources: float) -> dict[str, Any]:
    """As `ray.nodes()` lists it."""
    return {"Alive": alive, "Resources": {"CPU": 8.0, **resources}}


@pytest.mark.parametrize(
    ("gpus", "nodes", "lacks"),
    [
        (0, [], False),
        (1, [], True),
        (1, [node()], True),
        (1, [node(), node(GPU=1.0)], False),
        (1, [node(GPU=8.0, alive=False)], True),
        (0.25, [node(GPU=1.0)], False),
        (0.25, [node()], True),
        (2, [node(GPU=1.0), node(GPU=1.0)], True),  # not together: a renderer is on one node
        (2, [node(GPU=2.0)], False),
    ],
)
def test_a_renderer_needs_its_gpus_on_one_node(
    monkeypatch: pytest.MonkeyPatch, gpus: float, nodes: list[dict[str, Any]], lacks: bool
) -> None:
    monkeypatch.setattr(checks.ray, "nodes", lambda: nodes)
    assert lacking_gpus(gpus) == (f"no node offers {gpus:g} GPU" if lacks else None)


def test_a_cluster_that_adds_nodes_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what a deployment changes holds at once."""
    monkeypatch.setattr(checks.ray, "nodes", lambda: [node()])
    launcher = RayLauncher(Attempts("assets", None), "output", list)
    assert launcher.lacking(DEFAULT_POOL) is None, "nothing is known of what it needs"
    launcher.needs({DEFAULT_POOL: 1}, nodes_on_demand=False)
    assert launcher.lacking(DEFAULT_POOL) == "no node offers 1 GPU"
    launcher.needs({DEFAULT_POOL: 1}, nodes_on_demand=True)
    assert launcher.lacking(DEFAULT_POOL) is None


def test_nodes_are_not_asked_for_at_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []

    def nodes() -> list[dict[str, Any]]:
        asked.append(None)
        return [node()]

    monkeypatch.setattr(checks.ray, "nodes", nodes)
    launcher = RayLauncher(Attempts("assets", None), "output", list)
    launcher.needs({DEFAULT_POOL: 1}, nodes_on_demand=False)
    assert {launcher.lacking(DEFAULT_POOL) for _ in range(100)} == {"no node offers 1 GPU"}
    assert len(asked) == 2, "for GPUs, and for CPUs of tasks"


@pytest.mark.parametrize(
    ("cpus", "reserved", "least"),
    [
        ([4.0], 0.6, TASK_CPUS),
        ([2.0], 1.1, TASK_CPUS),  # a laptop: a renderer of one, and an ingress
        ([2.0], 0.6, TASK_CPUS),
        ([2.0], 1.2, SMALL_TASK_CPUS),
        ([1.0], 0.6, SMALL_TASK_CPUS),
        ([8.0, 8.0], 8.2, TASK_CPUS),
        ([8.0, 8.0], 14.6, SMALL_TASK_CPUS),  # it may be that neither has room for one
        ([], 0.6, SMALL_TASK_CPUS),
    ],
)
def test_a_job_task_always_finds_room(
    monkeypatch: pytest.MonkeyPatch, cpus: list[float], reserved: float, least: float
) -> None:
    """Even if all replicas run that may."""
    monkeypatch.setattr(checks.ray, "nodes", lambda: [node(CPU=each) for each in cpus])
    launcher = RayLauncher(Attempts("assets", None), "output", list)
    launcher.leave(reserved)
    launcher.lacking(DEFAULT_POOL)
    assert launcher._task_cpus == least
