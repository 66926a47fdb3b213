"""Bucket: an S3 server (moto) in threads of this process, with one bucket, and with the faults that a test
wants. What it holds stays when it is stopped and started again.

Knows S3; nothing of what is stored there.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIEnvironment

import httpx
from werkzeug.serving import make_server

KEYS = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "artist", "AWS_SECRET_ACCESS_KEY": "secret"}
"""The environment of whoever speaks to it."""

WAY = "?endpoint=http://127.0.0.1"


class Bucket:
    """`says`: an HTTP status with which every request is answered. `drops`: headers of requests that do not
    reach S3. `adds`: headers of every answer. `hold`: cleared, requests wait for it."""

    def __init__(self) -> None:
        self.name, self.port = f"studio-{uuid.uuid4().hex[:8]}", 0
        self.says: int | None = None
        self.drops: set[str] = set()
        self.adds: list[tuple[str, str]] = []
        self.asked: Counter[str] = Counter()  # by method
        self.hold = threading.Event()
        self.hold.set()
        # It takes a second to import, which tests without a bucket need not spend.
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._s3: Any = DomainDispatcherApplication(create_backend_app)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)

    def __enter__(self) -> Self:
        self.start()
        self.http.put(f"/{self.name}").raise_for_status()
        return self

    def __exit__(self, *_: object) -> None:
        self.recover()
        self.stop()

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}")

    def stop(self) -> None:
        self.http.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def recover(self) -> None:
        """No fault is left."""
        self.says = None
        self.drops.clear()
        self.adds.clear()
        self.hold.set()
        self.allow()

    def deny(self) -> None:
        """From now on it knows nobody's keys."""
        self.http.post("/moto-api/reset-auth", content=b"0")

    def allow(self) -> None:
        self.http.post("/moto-api/reset-auth", content=b"inf")

    @property
    def address(self) -> str:
        return self.at("art")

    def at(self, prefix: str, bucket: str = "") -> str:
        return f"s3://{bucket or self.name}/{prefix}{WAY}:{self.port}"

    def holds(self) -> list[str]:
        """Keys of everything in the bucket, whatever fault there is for others."""
        from moto.s3.models import s3_backends

        backend: Any = next(iter(s3_backends["123456789012"].values()))
        return sorted(backend.buckets[self.name].keys)

    def versions(self) -> None:
        """It keeps versions from now on."""
        body = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.http.put(f"/{self.name}?versioning", content=body).raise_for_status()

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/moto-api"):
            return self._s3(environ, start)
        self.asked[environ["REQUEST_METHOD"]] += 1
        self.hold.wait()
        if self.says is not None:
            with contextlib.suppress(ValueError):  # the body that nobody reads
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(f"{self.says} Trouble", [("Content-Length", "0")])
            return []
        for header in self.drops:
            environ.pop(f"HTTP_{header.upper().replace('-', '_')}", None)
        return self._s3(environ, self._adding(start))

    def _adding(self, start: StartResponse) -> Callable[..., Any]:
        return lambda status, headers, *rest: start(status, [*headers, *self.adds], *rest)
