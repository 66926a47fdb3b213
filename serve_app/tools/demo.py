"""demo: starts the service on a free port with its own state, orders one picture, watches it, and stops.

Knows the service only as its user does, through HTTP. Nothing is left running; the picture stays.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import socket
import time
from pathlib import Path

from rich.console import Console

PROMPT = "a castle"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt", nargs="?", default=PROMPT)
    parser.add_argument("--style", default="icon")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    console = Console()
    began = time.monotonic()
    with console.status("Starting Ray and the service (10 to 60 s) ..."):
        port = start()
    try:
        console.print(f"The service answers after {time.monotonic() - began:.0f} s.")
        draw(console, port, given.prompt, given.style, given.seed)
    finally:
        with console.status("Stopping what was started ..."):
            stop()


def start() -> int:
    """A new Ray cluster, with Serve on a free port. Returns the port."""
    os.environ["RAY_AUTH_MODE"] = "disabled"  # it listens on loopback, and ends with this command
    os.environ.setdefault("RAY_worker_niceness", "0")
    import logging

    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    from serve_app.app import build
    from serve_app.config import Settings

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(app_name="demo", state_dir=Path(".demo/state"), num_cpus=0.5)
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        logging_config=LoggingConfig(log_level="ERROR"),
    )
    serve.run(build(settings), name="demo", route_prefix="/", blocking=False)
    return port


def draw(console: Console, port: int, prompt: str, style: str, seed: int) -> None:
    from serve_app.cli import bar, succeeded
    from serve_app.client import Client
    from serve_app.config import Settings

    settings = Settings()
    with Client(f"http://127.0.0.1:{port}") as client:
        console.print(f'Ordering "{prompt}" in style {style}, seed {seed}.')
        job = client.generate(prompt, style_id=style, seed=seed)
        with bar(job) as show:
            job = succeeded(client.wait(job.job_id, on_progress=show))
        for image in job.images:
            path = settings.path(settings.output_dir) / image.url.removeprefix("/output/")
            console.print(f"Picture: {path}", soft_wrap=True)
            console.print(f"URL (while the service runs): {client.url(image)}", soft_wrap=True)


def stop() -> None:
    import ray
    from ray import serve

    from serve_app.cluster.handles import registry_actor

    # Ray prints to stdout that calls to the actors being stopped have failed. That is expected.
    with contextlib.redirect_stdout(io.StringIO()):
        serve.shutdown()
        ray.kill(registry_actor("demo"))
        ray.shutdown()


if __name__ == "__main__":
    main()
