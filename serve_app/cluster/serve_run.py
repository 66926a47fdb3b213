"""serve_run: ends a `serve run` that has nothing to serve; Ray lets it wait for ever.

Knows Ray's list of drivers and Serve's status; not why an application was refused.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from typing import Any

import ray
from ray import serve
from ray._private import state

SERVE_RUN = re.compile(r"(^|[\s/])serve\s+run\s")


def end_serve_run(why: str) -> None:
    """Called by the task of Serve's that builds an application and refuses it. If a `serve run` on this
    machine started this Serve, and nothing else is served, tells `why` there and interrupts it."""
    driver = _driver()
    if driver is None or any(app.deployments for app in serve.status().applications.values()):
        return
    print(why, file=sys.stderr, flush=True)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it ends, or is somebody else's
        os.kill(driver, signal.SIGINT)


def _driver() -> int | None:
    """Process id of the `serve run` that this task, and so Serve, belongs to. None: it was started otherwise,
    or elsewhere, or has ended."""
    if not ray.is_initialized():
        return None
    jobs: list[dict[str, Any]] = state.jobs()
    for job in jobs:
        ours = job["JobID"] == ray.get_runtime_context().get_job_id()
        near = job["DriverIPAddress"] == ray.util.get_node_ip_address()
        if ours and near and not job["IsDead"] and SERVE_RUN.search(job["Entrypoint"]):
            return job["DriverPid"]
    return None
