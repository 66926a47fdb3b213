"""own_ray: a Ray cluster of this command alone, on loopback, with one Serve config on it.

Knows Ray and Serve; nothing of jobs. It never joins a cluster that runs, and it stops what it started.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

from serve_app.errors import ConfigError, NotServing, StoreHeld
from serve_app.tools.reason import why_failed

LOOK_EVERY_S = 0.5  # nothing tells when Serve's status changes


class Places(NamedTuple):
    """Where a running Ray is looked at: the folder of its logs, and its dashboard's host and port, or ""."""

    logs: Path
    dashboard: str


def refuse_taken_port(host: str, port: int) -> None:
    """Raises ConfigError if something listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} of {host} cannot be used: {error.strerror}. Does another service run "
                "there? `http_options.port` of the config names the port"
            ) from error


def refuse_held_state(state_dir: Path) -> None:
    """Raises StoreHeld if a registry has this state. It would be found out later, but after minutes: Ray
    goes on asking a registry that cannot start."""
    lock = state_dir / "registry.lock"
    if lock.exists():
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = file.read().strip() or "another process"
                raise StoreHeld(
                    f"{state_dir} is in use by {holder}: the service runs already, or its `state_dir` is "
                    "that of another one"
                ) from None


def prepare() -> None:
    """Variables that Ray reads when it is imported. Must be called before that."""
    # On one machine Ray takes the address of the network by default, and opens its ports there.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ.pop("RAY_ADDRESS", None)  # of another cluster
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Ray ends idle workers that are more than the CPUs it has free, which on a small machine are none: then
    # each job after a quiet second would wait for one to start.
    os.environ.setdefault("RAY_num_workers_soft_limit", str(max(2, os.cpu_count() or 1)))
    # Serve looks ten times a second whether anything has to change: a quarter of what an idle service costs.
    os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.3")
    # With HAProxy, an ingress waits so long before it stops, for load balancers, and this service has none.
    os.environ.setdefault("RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", "1")


@contextlib.contextmanager
def serving(
    config: dict[str, Any], *, dashboard: bool, told: Callable[[str], None]
) -> Generator[Places]:
    """Serve `config` until the block ends. `told` hears what is being done.

    Raises NotServing, with the first failing reason.
    """
    from ray.serve.schema import ServeDeploySchema

    told("starting Ray")
    with _quiet():
        try:
            signal.signal(signal.SIGTERM, _as_ctrl_c)
            with _token_place():
                _start(dashboard)
            signal.signal(signal.SIGTERM, _as_ctrl_c)  # again: Ray has set its own
            _deploy(ServeDeploySchema.model_validate(config), told)
            worker: Any = importlib.import_module("ray._private.worker")
            node = worker._global_node
            yield Places(Path(node.get_logs_dir_path()), node.webui_url or "")
        finally:
            told("stopping")
            _stop([app.get("name", "default") for app in config["applications"]])


def _start(dashboard: bool) -> None:
    import ray

    from serve_app.cluster.handles import quoted_python

    try:
        ray.init(
            address="local",
            namespace="serve",
            include_dashboard=dashboard,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env=quoted_python() or None,
        )
    except Exception as error:  # Ray's own words for it are bare exceptions, of every kind
        why = str(error).rstrip(". ")
        raise NotServing(f"Ray does not start: {why}. If the machine is busy, try again") from error


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Ray prints what its workers raise on standard output, also with log_to_driver=False."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _deploy(config: Any, told: Callable[[str], None]) -> None:
    from ray.serve._private.api import serve_start

    client = serve_start(
        http_options=config.http_options.model_dump(),
        proxy_location=config.proxy_location,
        global_logging_config=config.logging_config,
        controller_options=config.controller_options,
    )
    client.deploy_apps(config)
    for app in config.applications:
        _await_running(app.name, told)


def _await_running(name: str, told: Callable[[str], None]) -> None:
    """Raises NotServing when Serve gives up."""
    from ray import serve

    while True:
        app = serve.status().applications.get(name)
        if app is not None:
            if app.status == "RUNNING":
                return
            if app.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                parts = {
                    part: {"status": str(d.status.value), "message": d.message}
                    for part, d in app.deployments.items()
                }
                raise NotServing(why_failed({"message": app.message, "deployments": parts}))
            late = [part for part, d in app.deployments.items() if d.status != "HEALTHY"]
            told("starting " + " and ".join(late or [name]))
        time.sleep(LOOK_EVERY_S)


def _stop(names: list[str]) -> None:
    import ray
    from ray import serve

    from serve_app.cluster.handles import registry_actor

    if not ray.is_initialized():
        return
    serve.shutdown()
    for name in names:
        with contextlib.suppress(ValueError):
            ray.kill(registry_actor(name))
    ray.shutdown()


@contextlib.contextmanager
def _token_place() -> Generator[None]:
    """Ray writes a token below the home directory, which may be missing or read-only."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise NotServing(
            f"Ray cannot start: {error}. (Ray keeps its token in ~/.ray: HOME must name a folder that can be "
            "written; or set RAY_AUTH_TOKEN to a secret of your own.)"
        ) from error


def _as_ctrl_c(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
