"""Service: the running product as a test sees it: HTTP, files on disk, and processes that can die."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from serve_app.artifacts.identity import NAME
from serve_app.messages import TERMINAL
from serve_app.tools.haproxy import SWITCH, own_places

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answer_to_all_of(port: int, size: int, *headers: str) -> bytes:
    """To a picture file of so many bytes, of which all are sent before anything is read."""
    head = (
        *("POST /v1/inspect HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"),
        *("Content-Type: image/png", f"Content-Length: {size}", *headers, "\r\n"),
    )
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall("\r\n".join(head).encode() + bytes(size))
        return b"".join(iter(lambda: connection.recv(65536), b""))


def wait_until(condition: Callable[[], Any], timeout_s: float = 60, what: str = "") -> Any:
    """Ask until the answer is true, and return that answer. Raises AssertionError after `timeout_s`."""
    give_up = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        # Another process makes it true, and nothing tells this one when.
        threading.Event().wait(0.05)
    return answer


def haproxy() -> dict[str, str]:
    """Variables for a service behind HAProxy. No load balancer stands before it, for which an ingress would
    wait half a minute before it stops."""
    places = own_places(tempfile.mkdtemp(prefix="haproxy"))
    return {SWITCH: "1", "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1", **places}


@dataclass
class Service:
    directory: Path
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    cluster: dict[str, Any] = field(default_factory=lambda: {"num_cpus": 4})
    root: Path = ROOT  # of the code it runs
    host: str = "tests.cluster.host"  # the module that runs it
    environment: dict[str, str] = field(default_factory=dict[str, str])  # beside this process's own
    headers: dict[str, str] = field(default_factory=dict[str, str])  # of every call of `http`

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.output = self.directory / "output"
        self.settings = {
            "app_name": "assets",
            "output_dir": str(self.output),
            "state_dir": str(self.directory / "state"),
            "num_cpus": 0.5,
            "num_gpus": 0,
            "autoscaling_interval_s": 0.5,
            "upscale_delay_s": 0,
            **self.settings,
        }
        self.port, self.metrics_port = free_port(), free_port()
        self._host: subprocess.Popen[str] | None = None
        self._seen: dict[int, psutil.Process] = {}

    # ---- life ----

    def start(self) -> Service:
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", timeout=30, headers=self.headers
        )
        # A short path of its own: Ray's sockets must fit into 107 characters.
        self._temp = tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True)
        self._log = (self.directory / "host.log").open("a")
        self._host = subprocess.Popen(
            [sys.executable, "-m", self.host],
            cwd=self.root,
            env=os.environ | self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        cluster = {
            "_temp_dir": self._temp.name,
            "_metrics_export_port": self.metrics_port,
            **self.cluster,
        }
        first = {"settings": self.settings, "port": self.port, "cluster": cluster}
        self._address = self._say(first)
        return self

    def deploy(self, **changes: Any) -> None:
        self.settings.update(changes)
        self._say({"deploy": self.settings})

    def deploy_code(self) -> None:
        """Deploy the same settings with the code below `root` as it is now, from a new process."""
        first = {"address": self._address, "settings": self.settings}
        subprocess.run(
            [sys.executable, "-m", "tests.cluster.host"],
            cwd=self.root,
            input=json.dumps(first) + "\n",
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            check=True,
            timeout=180,
        )
        self.tree()

    def delete(self) -> None:
        self._say({"delete": True})

    def registry(self, method: str, *args: Any) -> Any:
        """Call a method of the registry actor."""
        return self._say({"registry": [method, args]})

    def renderers(self, method: str, *args: Any) -> list[Any]:
        """Call every renderer replica."""
        return self._say({"renderer": [method, args]})

    def _say(self, command: dict[str, Any]) -> Any:
        assert self._host is not None
        assert self._host.stdin is not None
        assert self._host.stdout is not None
        self._host.stdin.write(json.dumps(command) + "\n")
        self._host.stdin.flush()
        answer = ""
        while (line := self._host.stdout.readline()) != "READY\n":
            if not line:
                raise AssertionError(f"the service ended: {self.log()[-3000:]}")
            if line.startswith("ANSWER "):
                answer = line.removeprefix("ANSWER ")
        self.tree()
        return json.loads(answer) if answer else None

    def stop(self) -> None:
        """Ctrl-C, in effect. No process may be left."""
        if self._host is None:
            return
        self.tree()
        assert self._host.stdin is not None
        self._host.stdin.close()
        self._host.wait(timeout=90)
        self._end()

    def kill_everything(self) -> None:
        """SIGKILL to every process of the service, in the order in which they were found."""
        self.tree()
        assert self._host is not None
        for process in list(self._seen.values()):
            if process.is_running():
                process.kill()
        self._host.wait(timeout=30)
        self._end()

    def _end(self) -> None:
        assert self._host is not None
        self.http.close()
        for pipe in (self._host.stdin, self._host.stdout, self._log):
            if pipe is not None:
                pipe.close()
        psutil.wait_procs(list(self._seen.values()), timeout=20)
        left = [p for p in self._seen.values() if p.is_running() and p.status() != "zombie"]
        for process in left:
            process.kill()
        names = [" ".join(_title(p)) for p in left]
        self._seen.clear()
        self._host = None
        self._temp.cleanup()
        assert not names, f"left behind: {names}"

    @property
    def ray_directory(self) -> str:
        return self._temp.name

    def log(self) -> str:
        return (self.directory / "host.log").read_text()

    # ---- processes ----

    def tree(self) -> list[psutil.Process]:
        """Every process of the service. Remembered: Ray's agents can outlive their parents."""
        assert self._host is not None
        host = psutil.Process(self._host.pid)
        found = [host, *host.children(recursive=True)]
        self._seen.update({process.pid: process for process in found})
        return found

    def processes(self, pattern: str) -> list[psutil.Process]:
        """Those whose title matches, such as `ray::ServeReplica:assets:Renderer`."""
        return [p for p in self.tree() if re.search(pattern, " ".join(_title(p)))]

    def one(self, pattern: str) -> psutil.Process:
        return wait_until(lambda: self.processes(pattern), 30, pattern)[0]

    def kill(self, pattern: str) -> psutil.Process:
        """SIGKILL one, and wait until it is dead."""
        process = self.one(pattern)
        os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs([process], timeout=10)
        return process

    # ---- jobs ----

    def submit(self, **order: Any) -> str:
        body = {"prompt": "a red sword", "style_id": "none", "seed": 7, "steps": 4, **order}
        reply = self.http.post("/v1/generate", json=body)
        assert reply.status_code == 202, reply.text
        return reply.json()["job_id"]

    def job(self, job_id: str) -> dict[str, Any]:
        reply = self.http.get(f"/v1/jobs/{job_id}")
        assert reply.status_code == 200, reply.text
        return reply.json()

    def await_status(self, job_id: str, *statuses: str, timeout_s: float = 90) -> dict[str, Any]:
        def ask() -> dict[str, Any] | None:
            try:
                reply = self.http.get(f"/v1/jobs/{job_id}")
            except httpx.TransportError:
                return None
            assert reply.status_code in (200, 503, 500), reply.text
            job = reply.json()
            return job if reply.status_code == 200 and job["status"] in statuses else None

        return wait_until(ask, timeout_s, f"{job_id} {statuses}")

    def result(self, job_id: str, timeout_s: float = 90) -> dict[str, Any]:
        return self.await_status(job_id, *TERMINAL, timeout_s=timeout_s)

    def pixels(self, job: dict[str, Any]) -> list[str]:
        """A hash per image of what a viewer sees: metadata left out."""
        from PIL import Image

        hashes: list[str] = []
        for url in job["result_urls"]:
            with Image.open(self.output / url.removeprefix("/output/")) as image:
                hashes.append(hashlib.sha256(image.tobytes()).hexdigest())
        return hashes

    def files(self) -> list[str]:
        """Everything below output/, temporary files too, but not the folder's own id."""
        paths = self.output.rglob("*") if self.output.exists() else []
        return sorted(
            str(p.relative_to(self.output)) for p in paths if p.is_file() and p.name != NAME
        )


def _title(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
