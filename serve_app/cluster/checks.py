"""Checks of the cluster: has it GPUs, and whom does it let in?

Knows Ray's and Serve's own settings; changes nothing.
"""

from __future__ import annotations

import os

import ray

from serve_app.cluster.handles import call_sync
from serve_app.config import Settings
from serve_app.errors import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def lacking_gpus(gpus: float) -> str | None:
    """What a renderer needs and no node has, as a sentence; None: one has it, free or not. A call to Ray's
    control store."""
    if gpus <= 0:
        return None
    most = max(
        (node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0
    )
    if most >= gpus:
        return None
    return f"no node offers {gpus:g} GPU"


def gpus_per_replica(settings: Settings) -> float:
    """`auto` is 1 if the cluster has a GPU now. Needs a running Ray for `auto` only."""
    if settings.num_gpus == "auto":
        return 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    return settings.num_gpus


def refuse_open_bind(settings: Settings) -> None:
    """Raises ConfigError if other hosts could reach the service while it asks for no API key."""
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
