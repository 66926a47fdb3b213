"""The commands of an operator: ray start, serve deploy, serve status, serve shutdown, serve run, Ctrl-C."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from .service import ROOT, free_port, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
BIN = Path(sys.executable).parent
AT_ONCE = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
"""For `ray start`, which would wait half a minute for a node that drains before it ends."""


def config_file(directory: Path, port: int, settings: dict[str, Any]) -> Path:
    """serve_config.yaml itself, with ports, paths and the tiny model put in."""
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["http_options"]["port"] = port
    config["applications"][0]["args"] |= {
        **settings,
        "output_dir": str(directory / "output"),
        "state_dir": str(directory / "state"),
        "shutdown_grace_s": 3,
    }
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def running(args: list[str], env: dict[str, str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    """A command that stays in the foreground; all its children end with it."""
    with log.open("ab") as output:
        # Started in the background, a test run ignores Ctrl-C, and its children would inherit that.
        process = subprocess.Popen(
            args, cwd=ROOT, env=env, stdout=output, stderr=output, preexec_fn=_accept_ctrl_c
        )
    try:
        yield process
    finally:
        ended = process.poll() is not None
        family = [] if ended else psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        _, left = psutil.wait_procs(family, timeout=30)
        for orphan in left:
            orphan.kill()


def _accept_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def order(port: int, **changes: Any) -> str:
    body = {"prompt": "a sword", "style_id": "icon", **changes}
    reply = httpx.post(f"http://127.0.0.1:{port}/v1/generate", json=body, timeout=30)
    assert reply.status_code == 202, reply.text
    return reply.json()["job_id"]


def job(port: int, job_id: str) -> dict[str, Any]:
    return httpx.get(f"http://127.0.0.1:{port}/v1/jobs/{job_id}", timeout=30).json()


def draws(port: int, job_id: str) -> bool:
    wait_until(lambda: job(port, job_id)["status"] in ("SUCCESS", "FAILURE"), 90, "the job's end")
    return job(port, job_id)["status"] == "SUCCESS"


def answers(url: str, token: str = "") -> bool:
    """With 200, now."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        reply = httpx.get(url, headers=headers, timeout=30)
    except httpx.TransportError:
        return False
    return reply.status_code == 200


def misspelled(config: Path) -> Path:
    """The config with a key that there is not, as another file."""
    path = config.with_name("misspelled.yaml")
    path.write_text(config.read_text().replace("slots:", "slotss:"))
    return path


def test_an_operators_commands(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    """On a cluster with token authentication, as Ray starts them from 2.59 on."""
    port, gcs, dashboard = free_port(), free_port(), free_port()
    config = config_file(tmp_path, port, tiny_settings)
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    env |= {"RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_worker_niceness": "0"}
    token = {**env, "RAY_AUTH_MODE": "token"}
    log = tmp_path / "log.txt"
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as temp:
        head = [
            *[str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"],
            *[f"--port={gcs}", f"--dashboard-port={dashboard}", f"--temp-dir={temp}"],
            *["--num-cpus=4", "--object-store-memory=100000000", "--include-dashboard=true"],
        ]
        with running(head, token | AT_ONCE, log):
            address = f"http://127.0.0.1:{dashboard}"

            def serve(*args: str, env: dict[str, str] = token) -> subprocess.CompletedProcess[str]:
                command = [str(BIN / "serve"), *args, "--address", address]
                return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)

            version = f"{address}/api/version"
            wait_until(lambda: answers(version, env["RAY_AUTH_TOKEN"]), 90, "the dashboard")
            deployed = serve("deploy", str(config))
            assert deployed.returncode == 0, deployed.stderr
            ready = f"http://127.0.0.1:{port}/readyz"
            wait_until(lambda: answers(ready), 120, "the service")
            wait_until(lambda: "status: RUNNING" in serve("status").stdout, 60, "RUNNING")
            assert draws(port, order(port))
            assert serve("status", env={**env, "RAY_AUTH_MODE": "disabled"}).returncode != 0
            left_behind = order(port, steps=900, n=16)
            wait_until(lambda: job(port, left_behind)["status"] == "STARTED", 60, "it runs")
            stopped = serve("shutdown", "-y")
            assert stopped.returncode == 0, stopped.stderr

            command = [str(BIN / "serve"), "run", "--address", f"127.0.0.1:{gcs}", str(config)]
            with running(command, token, log) as foreground:
                wait_until(lambda: answers(ready), 120, "serve run answers")
                assert draws(port, order(port))
                assert job(port, left_behind)["attempts"] == 0
                assert job(port, left_behind)["status"] in ("STARTED", "SUCCESS")
                foreground.send_signal(signal.SIGINT)
                assert foreground.wait(60) == 0

            command[-1] = str(misspelled(config))
            with running(command, token, tmp_path / "refused.txt") as refused:
                refused.wait(60)  # by itself: there is nothing to serve
            told = (tmp_path / "refused.txt").read_text()
            assert "args.slotss: unknown key; did you mean 'slots'?" in told
            assert "Traceback" not in told
