"""Peer: Redis, a Celery worker and uvicorn as processes of this benchmark. Knows how they start and stop.

Redis has the settings that Debian ships: snapshots, and no write is synced.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import redis

from tests.cluster.service import ROOT, free_port, wait_until

DEBIAN_SAVES = "3600 1 300 100 60 10000"  # `save` of /etc/redis/redis.conf


class Peer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._redis_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._processes: dict[str, psutil.Popen] = {}

    def start(self) -> Peer:
        output = self.folder / "output"
        output.mkdir(parents=True, exist_ok=True)
        url = f"redis://127.0.0.1:{self._redis_port}/0"
        env = os.environ | {"REDIS_URL": url, "PEER_OUTPUT": str(output)}
        store = ["--port", str(self._redis_port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self._run("redis", ["redis-server", *store, "--save", DEBIAN_SAVES], env)
        python = [sys.executable, "-m"]
        worker = ["celery", "-A", "tests.benchmarks.peer.worker", "worker", "--pool=solo"]
        self._run("worker", [*python, *worker, "--loglevel=WARNING"], env)
        routes = ["uvicorn", "tests.benchmarks.peer.routes:app", "--port", str(self.port)]
        self._run("api", [*python, *routes, "--log-level=warning", "--no-access-log"], env)
        self.redis = redis.Redis(port=self._redis_port)
        wait_until(self._answers, 30, "the peer answers")
        return self

    def waiting(self) -> int:
        """Jobs that are not done. The worker keeps those that it has fetched in a hash until they are."""
        return int(self.redis.llen("celery")) + int(self.redis.hlen("unacked"))

    def suspend(self) -> None:
        """Nothing is drawn until `resume`."""
        self._processes["worker"].suspend()

    def resume(self) -> None:
        self._processes["worker"].resume()

    def forget_all(self) -> None:
        self.redis.flushall()

    def processes(self) -> dict[str, list[psutil.Process]]:
        """By what they do."""
        return {name: [process] for name, process in self._processes.items()}

    def stop(self) -> None:
        with contextlib.suppress(KeyError):
            self.resume()
        self.redis.close()
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(timeout=20)

    def _run(self, name: str, command: list[str], env: dict[str, str]) -> None:
        with (self.folder / f"{name}.log").open("w") as log:
            started = psutil.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
        self._processes[name] = started

    def _answers(self) -> bool:
        try:
            order = {"prompt": "a sword", "style_id": "none"}
            return httpx.post(f"{self.url}/v1/generate", json=order).status_code == 202
        except httpx.TransportError:
            return False
