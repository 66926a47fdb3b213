"""run: checks a Serve config, serves it on a Ray of its own on this machine, and stops it at Ctrl-C.

Knows what the user is told meanwhile; `own_ray.py` knows Ray.
"""

from __future__ import annotations

import threading
from pathlib import Path

from rich.console import Console

from serve_app.cluster.keepers import refuse_used_redis
from serve_app.tools import own_ray
from serve_app.tools.check import check


def run(config: Path, console: Console) -> None:
    """Raises ConfigError if the config is wrong, and NotServing if the service does not come up."""
    checked = check(config)
    own_ray.refuse_taken_port(checked.host, checked.port)
    for settings in checked.settings.values():
        if settings.redis_url is None:
            own_ray.refuse_held_state(settings.path(settings.state_dir))
        else:
            refuse_used_redis(settings, settings.redis_url)
    try:
        with console.status("Starting (10 to 60 s) ...") as status:

            def told(text: str) -> None:
                status.update(f"{text} ...")

            with own_ray.serving(checked.data, dashboard=True, told=told) as places:
                status.stop()
                say(console, checked.port, places)
                threading.Event().wait()
    except KeyboardInterrupt:
        console.print("Stopped. Jobs that had not ended go on at the next start.")


def say(console: Console, port: int, places: own_ray.Places) -> None:
    lines = (
        f"Serving: http://127.0.0.1:{port}, described at http://127.0.0.1:{port}/docs",
        f"Dashboard: http://{places.dashboard}; it asks for what `.venv/bin/ray get-auth-token` prints",
        f"Logs: {places.logs}",
        "Ctrl-C stops all of it.",
    )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
