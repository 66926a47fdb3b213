"""haproxy: puts HAProxy in front of a service that `assets run` opens to other hosts.

Knows Serve's variables for it, which Ray reads when it is imported; imports no Ray.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from serve_app.catalog.yamlfile import read_yaml
from serve_app.config import LOOPBACK, Settings
from serve_app.errors import ConfigError

SWITCH = "RAY_SERVE_ENABLE_HA_PROXY"
REPLICA_PORTS = 200
"""Ports that replicas may take, one each."""


def put_in_front(config: Path) -> None:
    """Where the config opens the service to other hosts, and does so with keys, HAProxy takes the place of
    Serve's proxy, which costs more per request than all else that answers it. Whoever sets the switch
    decides."""
    if SWITCH not in os.environ and _is_open_with_keys(config):
        os.environ[SWITCH] = "1"
    if os.environ.get(SWITCH) == "1":
        folder = tempfile.mkdtemp(prefix="assets-haproxy-")  # short: it holds a socket
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name, value in own_places(folder).items():
            os.environ.setdefault(name, value)


def _is_open_with_keys(config: Path) -> bool:
    """False, too, of a config that is wrong: the check comes later, and says how."""
    try:
        data: dict[str, Any] = read_yaml(config).data
        host = data["http_options"]["host"]
        args = [app.get("args", {}) for app in data["applications"]]
        keys = [Settings.model_validate(some).api_keys_file for some in args]
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return host not in LOOPBACK and all(keys)


def own_places(folder: str) -> dict[str, str]:
    """Ports and files of this service alone: Serve's are the same for every service on a machine. And no more
    threads than there are processors."""
    first = 30_000 + os.getpid() % 20_000
    return {
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(_free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(_free_port()),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + REPLICA_PORTS),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
