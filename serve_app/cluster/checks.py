"""What this cluster has and lets in, asked before anything is served.

Knows Ray's and Serve's own settings; changes nothing.
"""

from __future__ import annotations

import os

import ray

from serve_app.cluster.handles import call_sync
from serve_app.config import Settings
from serve_app.errors import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


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
