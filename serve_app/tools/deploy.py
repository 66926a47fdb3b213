"""deploy: a checked Serve config, stamped with what it stands for, put on a Ray cluster and waited for.

Knows what Serve compares and when it has failed; `dashboard.py` knows how to ask.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from serve_app.cluster.handles import STAMP, code_version, quoted_python
from serve_app.config import Settings
from serve_app.errors import NotServing
from serve_app.tools.check import Checked, check
from serve_app.tools.dashboard import Dashboard
from serve_app.tools.reason import reason, why_failed

LOOK_EVERY_S = 1.0  # nothing tells when Serve's status changes
VANISHED_S = 5.0  # after it, an application that Serve does not know was swallowed by a shutdown
DELETING = "DELETING"


def deploy(config: Path, dashboard: Dashboard, timeout_s: float, console: Console) -> None:
    """Returns when every application of the config runs as it is on disk now. Waits for a shutdown of Serve
    that is under way. Raises ConfigError if the config is wrong, and NotServing."""
    checked = check(config)
    stamped = stamp(checked)
    until = time.monotonic() + timeout_s
    with console.status("Looking at the cluster ...") as status:

        def told(news: str) -> None:
            status.update(f"{news} ...")

        while not _deployed(dashboard, checked, stamped, until, told):
            console.print("Serve was shut down meanwhile. Deploying again.")


def stamp(checked: Checked) -> dict[str, Any]:
    """The config, each application of ours with a hash of its code and files in its environment.

    Serve compares import path, environment and args. Without the hash, it would take changed code, styles or
    models for what it runs already, and do nothing.
    """
    config = copy.deepcopy(checked.data)
    for app in config["applications"]:
        if settings := checked.settings.get(app.setdefault("name", "default")):
            env = app.setdefault("runtime_env", {})
            env.setdefault("env_vars", {})[STAMP] = files_version(settings)
            env.update(quoted_python())
    return config


def files_version(settings: Settings) -> str:
    """Hash of the code, the styles and the models; of local weights their sizes and times."""
    from serve_app.catalog.models import load_models
    from serve_app.catalog.pools import served_models

    digest = hashlib.sha256(code_version().encode())
    models_file = settings.path(settings.models_file)
    for path in (models_file, settings.path(settings.styles_file)):
        digest.update(path.read_bytes())
    models = load_models(models_file)
    for spec in (models[name] for name in sorted(served_models(settings, models))):
        if spec.path is not None:
            for path in sorted(settings.path(Path(spec.path)).rglob("*")):
                stat = path.stat()
                digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:12]


def show_status(dashboard: Dashboard, console: Console) -> None:
    """A line for each process: what it is, how it is, and the code and files it was started with."""
    apps = dashboard.serve()["applications"]
    if not apps:
        console.print("Nothing is deployed.")
    for name, app in apps.items():
        console.print(f"{name}: {app['status']}")
        if app["message"].strip() and app["status"] != "RUNNING":
            console.print(reason(app["message"]))
        table = Table("process", "state", "pid", "code", "deployed", box=None)
        for process in sorted(dashboard.processes(name)):
            code = process.environment.get("ASSETS_CODE", "?")
            deployed = process.environment.get(STAMP, "?")
            table.add_row(process.name, process.state, str(process.pid), code, deployed)
        console.print(table)
    console.print(f"code here: {code_version()}")


def _deployed(
    dashboard: Dashboard,
    checked: Checked,
    stamped: dict[str, Any],
    until: float,
    told: Callable[[str], None],
) -> bool:
    """All of it runs. False: a shutdown of Serve has swallowed it."""
    _await_shutdown(dashboard, until, told)
    _refuse_other_http(checked, dashboard.serve())
    dashboard.deploy(stamped)
    return all(_runs(dashboard, app, until, told) for app in stamped["applications"])


def _await_shutdown(dashboard: Dashboard, until: float, told: Callable[[str], None]) -> None:
    while any(app["status"] == DELETING for app in dashboard.serve()["applications"].values()):
        told("Serve is shutting down")
        _pause(until, "Serve is still shutting down")


def _refuse_other_http(checked: Checked, details: dict[str, Any]) -> None:
    """Serve keeps the address of its first deploy, and ignores another one in silence."""
    now = details.get("http_options") or {}
    here = (now.get("host"), now.get("port"))
    if None not in here and here != (checked.host, checked.port):
        raise NotServing(
            f"Serve listens on {here[0]}:{here[1]} on this cluster, and {checked.path} asks for "
            f"{checked.host}:{checked.port}. Serve keeps the address of its first deploy: "
            "`serve shutdown` first, or write that address into the config"
        )


def _runs(
    dashboard: Dashboard, app: dict[str, Any], until: float, told: Callable[[str], None]
) -> bool:
    """Waits until the application runs as `app` says. False: it is not there any more."""
    name, seen = app["name"], time.monotonic()
    while True:
        now = dashboard.serve()["applications"].get(name)
        ours = now is not None and _stamp_of(now["deployed_app_config"]) == _stamp_of(app)
        if now is None or now["status"] == DELETING:
            if time.monotonic() - seen > VANISHED_S:
                return False
            told(f"{name} is not there yet")
        elif ours and now["status"] == "RUNNING":
            return True
        elif ours and now["status"] in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise NotServing(f"{name} cannot be served: {why_failed(now)}")
        else:
            seen = time.monotonic()
            late = [part for part, d in now["deployments"].items() if d["status"] != "HEALTHY"]
            told("starting " + " and ".join(late or [name]))
        _pause(until, f"{name} does not run yet")


def _stamp_of(config: dict[str, Any] | None) -> str | None:
    env: dict[str, Any] = (config or {}).get("runtime_env") or {}
    return (env.get("env_vars") or {}).get(STAMP)


def _pause(until: float, why: str) -> None:
    if time.monotonic() > until:
        raise NotServing(f"{why}, and the time for it is over; `assets deploy --status` shows it")
    time.sleep(LOOK_EVERY_S)
