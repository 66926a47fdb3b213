"""Whether the nodes that there are could hold a renderer."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.cluster import checks
from serve_app.cluster.attempts import Attempts
from serve_app.cluster.checks import lacking_gpus
from serve_app.cluster.launcher import RayLauncher


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
    assert launcher.lacking() is None, "nothing is known of what it needs"
    launcher.needs(1, nodes_on_demand=False)
    assert launcher.lacking() == "no node offers 1 GPU"
    launcher.needs(1, nodes_on_demand=True)
    assert launcher.lacking() is None


def test_nodes_are_not_asked_for_at_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []

    def nodes() -> list[dict[str, Any]]:
        asked.append(None)
        return [node()]

    monkeypatch.setattr(checks.ray, "nodes", nodes)
    launcher = RayLauncher(Attempts("assets", None), "output", list)
    launcher.needs(1, nodes_on_demand=False)
    assert {launcher.lacking() for _ in range(100)} == {"no node offers 1 GPU"}
    assert len(asked) == 1
