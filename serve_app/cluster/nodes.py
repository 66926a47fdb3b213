"""nodes: on which node of the cluster an actor runs that is not at home everywhere.

Gives options for Ray. Does not know the actors.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from serve_app.config import Settings

ON_HEAD = {"node:__internal_head__": 0.001}
"""A resource that only the head node has."""


def near_its_store(settings: Settings) -> dict[str, Any]:
    """For the registry. SQLite is on the head node's own disk. With Redis any node will do, but rather the
    head, too: a node that comes and goes with the load would not go any more with a registry on it."""
    if settings.redis_url is None:
        return {"resources": ON_HEAD}
    heads = (node["NodeID"] for node in ray.nodes() if ON_HEAD.keys() & node["Resources"].keys())
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(next(heads), soft=True)}


def beside_this_process() -> dict[str, Any]:
    """For what needs files of the node of whoever asks."""
    here = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False)}
