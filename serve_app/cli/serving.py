"""serving: `assets check`, `assets run` and `assets deploy`, for whoever runs the service.

The work is done in `tools/`. Ray is imported only when a command needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serve_app.cli.options import Server
from serve_app.cli.printing import out
from serve_app.client import SERVER
from serve_app.config import PROJECT_ROOT

Config = Annotated[Path, typer.Argument(help="A Serve config.")]
LAPTOP = PROJECT_ROOT / "serve_config.yaml"
MARKS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def check(
    configs: Annotated[list[Path] | None, typer.Argument(help="Serve configs.")] = None,
) -> None:
    """Say what is wrong with Serve configs, and the files they name, on this machine."""
    from serve_app.tools.check import checks

    files = configs or [LAPTOP]
    checks(files)
    out.print(f"{', '.join(map(str, files))}: nothing is wrong")


def run(config: Config = LAPTOP) -> None:
    """Check a Serve config and serve it on this machine, on a Ray of its own, until Ctrl-C."""
    from serve_app.tools import haproxy, own_ray

    own_ray.prepare()
    haproxy.put_in_front(config)
    from serve_app.tools.run import run as serve

    serve(config, Console(stderr=True))


def deploy(
    config: Config = LAPTOP,
    status: Annotated[
        bool, typer.Option("--status", help="Deploy nothing: say what runs, of which code.")
    ] = False,
    address: Annotated[
        str, typer.Option(envvar="RAY_DASHBOARD_ADDRESS", help="Of Ray's dashboard.")
    ] = "http://127.0.0.1:8265",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the end.")] = 600,
) -> None:
    """Check a Serve config, deploy it on a running Ray cluster, and say how that ended."""
    from serve_app.tools.dashboard import Dashboard
    from serve_app.tools.deploy import deploy as put
    from serve_app.tools.deploy import show_status

    with Dashboard(address) as dashboard:
        if not status:
            put(config, dashboard, timeout, Console(stderr=True))
        show_status(dashboard, out)


def doctor(config: Config = LAPTOP, server: Server = SERVER) -> None:
    """Say what is wrong with a config, this machine and the service that runs, and what to do about it."""
    import httpx

    from serve_app.tools.doctor import examine

    wrong = 0
    with httpx.Client(base_url=server, timeout=10) as http:
        for level, what, said, advice in examine(config, http):
            wrong += level == "wrong"
            out.print(f"{MARKS[level]}  {what}: {said}")
            if advice:
                out.print(f"       {advice}")
    if wrong:
        raise typer.Exit(1)
