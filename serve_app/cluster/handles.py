"""Names of actors and deployments, handles to them, and the environment of processes that run this code.

Knows Ray; decides nothing about jobs.
"""

from __future__ import annotations

import gc
import hashlib
import os
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve import context

from serve_app.params import DEFAULT_POOL

NAMESPACE = "assets"
"""Ray's namespace of the registry. Not "serve": Serve's own tools look for their actors there."""
DETACHED: dict[str, Any] = {
    "namespace": NAMESPACE,
    "lifetime": "detached",
    "get_if_exists": True,
    "max_restarts": -1,
    "max_task_retries": -1,
}
"""Options of an actor that outlives every deployment, and that Ray starts again whenever it dies."""
RENDERER = "Renderer"
"""The deployment of the only pool; those of several begin so."""
CALL_TIMEOUT_S = 5.0
TASK_NICENESS = 5
STAMP = "ASSETS_DEPLOYED"
"""What `assets deploy` stamped an application with. The process that builds it has it, and hands it on."""


def registry_name(app_name: str) -> str:
    return f"{app_name}-registry"


def registry_actor(app_name: str) -> Any:
    """Raises ValueError if there is none."""
    return ray.get_actor(registry_name(app_name), namespace=NAMESPACE)


def call_registry(app_name: str, method: str, *args: Any) -> Any:
    """A ref of the answer. Raises ValueError if there is no registry, or one of older code without `call`:
    it is about to be replaced."""
    try:
        return registry_actor(app_name).call.remote(method, *args)
    except (AttributeError, TypeError) as error:
        raise ValueError("the registry is of older code") from error


def serve_session() -> str:
    """An id of the running Serve. It changes when Serve is shut down and started again. Raises ValueError
    if none runs."""
    controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    return controller._actor_id.hex()


def renderer_name(pool: str) -> str:
    """The deployment of a pool's renderers; of a pool `name/model`, those of `name`."""
    deployment = pool.partition("/")[0]
    return RENDERER if deployment == DEFAULT_POOL else f"{RENDERER}-{deployment}"


def renderer_handle(app_name: str, pool: str = DEFAULT_POOL) -> Any:
    """Raises ValueError or RayServeException without Serve, KeyError without the application, or
    where it has no such pool.

    Serve keeps one client per process for ever. In a worker that outlived `serve shutdown` it asks a dead
    controller and waits without end, so it is thrown away here. Must be called on an event loop.
    """
    client = context._global_client
    if client and client._controller._actor_id.hex() != serve_session():
        context._disconnect()
    handle = serve.get_deployment_handle(renderer_name(pool), app_name=app_name)
    if not handle.is_initialized:  # Serve gives the same one again
        # Its router on the caller's loop: on a thread of its own each call wakes the other thread four times.
        handle._init(_run_router_in_separate_loop=False)
    return handle


def call_sync(ref: Any, timeout_s: float | None = CALL_TIMEOUT_S) -> Any:
    """The result of a remote call, from a thread that has no event loop. Raises RayError."""
    return ray.get(ref, timeout=timeout_s)


def collect_rarely() -> None:
    """For a process that holds thousands of jobs: Python's collector looks through all of them again after
    each few hundred objects that are made, which is a tenth of what an order costs, and 100 ms in one go."""
    gc.set_threshold(50_000)


@cache
def give_way() -> None:
    """For a process that runs nothing but job tasks: orders and polls come first, then files. Where the
    operator made all of Ray's workers nicer, nothing changes."""
    os.nice(max(0, TASK_NICENESS - os.nice(0)))


@cache
def code_version() -> str:
    """Hash of the package's Python files. It is in each worker's environment, and Ray reuses a process for
    the same environment only: so none runs with modules of older code."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def worker_env(**variables: str) -> dict[str, Any]:
    """The runtime environment of processes that run this code."""
    stamp = {STAMP: os.environ[STAMP]} if STAMP in os.environ else {}
    return {"env_vars": {"ASSETS_CODE": code_version(), **stamp, **variables}, **quoted_python()}


def quoted_python(python: str = sys.executable) -> dict[str, str]:
    """What a runtime environment needs where the project lies in a folder with a space, an umlaut or a
    quote: Ray starts such workers by an unquoted `exec PYTHON` in a shell. Else nothing, so that each node
    uses its own interpreter."""
    quoted = shlex.quote(python)
    return {} if quoted == python else {"py_executable": quoted}
