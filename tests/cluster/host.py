"""A process that runs the service on a Ray cluster of its own until its standard input closes.

Tests start it, talk HTTP to it, kill parts of it or all of it, and start it again. It reads one JSON
line `{"settings": {...}, "port": n, "cluster": {...}}` and prints READY; each further line is another
command: `{"deploy": {...}}`, `{"delete": true}`, `{"registry": [method, args]}` and `{"renderer": ...}`,
whose answer is printed as `ANSWER` and JSON before READY. `{"address": ...}` in the first line joins a
running cluster, deploys, and leaves.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["RAY_AUTH_MODE"] = "disabled"  # loopback only, and gone with the test
os.environ["RAY_ADDRESS"] = "local"
os.environ.setdefault("RAY_worker_niceness", "0")

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import DeploymentUnavailableError

from serve_app import app
from serve_app.cluster.handles import RENDERER, registry_actor
from serve_app.config import Settings

LOGGING = {"enable_access_log": False}  # as in serve_config.yaml
HEALTH_CHECK_S = 1  # Serve sees no death between two; the tests kill many


def deploy(settings: dict[str, Any]) -> None:
    parsed = Settings.model_validate(settings)
    app.Renderer = app.Renderer.options(health_check_period_s=HEALTH_CHECK_S)
    app.Ingress = app.Ingress.options(health_check_period_s=HEALTH_CHECK_S)
    serve.run(
        app.build(parsed),
        name=parsed.app_name,
        route_prefix="/",
        blocking=False,
        logging_config=LOGGING,
    )


def answer(value: Any) -> None:
    """Marked, because Ray prints on standard output too."""
    print("ANSWER " + json.dumps(value, default=str))


def call(app_name: str, command: dict[str, Any]) -> None:
    if "registry" in command:
        method, args = command["registry"]
        remote = getattr(registry_actor(app_name), method)
        answer(ray.get(remote.remote(*args), timeout=60))
    if "renderer" in command:
        method, args = command["renderer"]
        found: list[Any] = []
        for name in sorted(serve.status().applications[app_name].deployments):
            if name.startswith(RENDERER):
                handle: Any = serve.get_deployment_handle(name, app_name=app_name)
                found += _all(handle.broadcast(method, *args))
        answer(found)


def _all(answers: Any) -> list[Any]:
    """Of every replica of a pool; none where it has none."""
    try:
        return answers.results(timeout_s=60)
    except DeploymentUnavailableError:
        return []


def join(first: dict[str, Any]) -> None:
    """Deploy the code as it is on disk now on a cluster that an earlier process started."""
    ray.init(address=first["address"], namespace="host", log_to_driver=False)
    deploy(first["settings"])
    ray.shutdown()
    print("READY", flush=True)


def main() -> None:
    first = json.loads(sys.stdin.readline())
    if "address" in first:
        join(first)
        return
    ray.init(
        address="local",
        namespace="host",
        include_dashboard=False,
        object_store_memory=100 * 1024 * 1024,
        log_to_driver=False,
        **first["cluster"],
    )
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=first["port"]), logging_config=LOGGING
    )
    deploy(first["settings"])
    answer(ray.get_runtime_context().gcs_address)
    print("READY", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "deploy" in command:
            deploy(command["deploy"])
        if "delete" in command:
            serve.delete(first["settings"]["app_name"])
        call(first["settings"]["app_name"], command)
        print("READY", flush=True)
    serve.shutdown()
    ray.kill(registry_actor(first["settings"]["app_name"]))
    ray.shutdown()


if __name__ == "__main__":
    main()
