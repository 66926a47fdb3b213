"""Names on the cluster, handles to what has them, and the environment of processes that run this code.

Knows Ray; decides nothing about jobs.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve import context

NAMESPACE = "assets"
"""Never "serve": Serve's own tools look there."""
RENDERER = "Renderer"
CALL_TIMEOUT_S = 5.0


def registry_name(app_name: str) -> str:
    return f"{app_name}-registry"


def registry_actor(app_name: str) -> Any:
    """Raises ValueError if there is none."""
    return ray.get_actor(registry_name(app_name), namespace=NAMESPACE)


def serve_session() -> str:
    """Which Serve this is: another one after it was shut down and started again. Raises ValueError
    if there is none."""
    controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    return controller._actor_id.hex()


def renderer_handle(app_name: str) -> Any:
    """Raises ValueError without Serve, RayServeException without the application.

    Serve keeps its client per process for ever: a worker that outlived `serve shutdown` would ask a
    dead controller, and wait without end.
    """
    client = context._global_client
    if client and client._controller._actor_id.hex() != serve_session():
        context._disconnect()
    return serve.get_deployment_handle(RENDERER, app_name=app_name)


def call_sync(ref: Any, timeout_s: float | None = CALL_TIMEOUT_S) -> Any:
    return ray.get(ref, timeout=timeout_s)


@cache
def code_version() -> str:
    """Hash of the package's Python files. In a worker's environment it keeps a process that has
    imported other code from being reused."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def worker_env(**variables: str) -> dict[str, Any]:
    """A runtime environment for processes that run this code."""
    return {"env_vars": {"ASSETS_CODE": code_version(), **variables}}
