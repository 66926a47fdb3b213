"""A Redis of our own: Debian's server on a free port, which tests kill, starve and start again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import redis

from serve_app.jobs.store.redis_link import DEMANDED


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """`folder` holds what it keeps. `settings`: of redis.conf, beside those that a store demands."""

    def __init__(self, folder: Path, **settings: str) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed: apt-get install redis-server")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = folder
        given = {name.replace("_", "-"): value for name, value in settings.items()}
        self.settings = {"save": "", **DEMANDED, **given}
        self.client: Any = redis.Redis(port=self.port, password=self.settings.get("requirepass"))
        self.start()

    def start(self) -> None:
        where = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder)}
        given = (where | self.settings).items()
        args = [text for name, value in given for text in (f"--{name}", value)]
        self.process = subprocess.Popen(["redis-server", *args], stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + 20
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                if time.monotonic() > give_up:
                    raise
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(0.02)
                raise RuntimeError(f"redis-server ended with {code}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def names(self) -> set[str]:
        return {key.decode() for key in self.client.keys("*")}


@contextlib.contextmanager
def redis_server(folder: Path, **settings: str) -> Generator[RedisServer]:
    server = RedisServer(folder, **settings)
    try:
        yield server
    finally:
        server.stop()
