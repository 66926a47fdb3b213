"""No route waits for a file, a lock or another host on the event loop: an ingress has one, for everybody."""

from __future__ import annotations

import io
import sys
import threading
from typing import Any

import httpx
from fastapi import FastAPI
from PIL import Image

from tests.api.harness import ORDER, LocalTransport, ordered
from tests.jobs.harness import World

BLOCKING = {
    *("open", "os.listdir", "os.scandir", "time.sleep", "sqlite3.connect"),
    *("subprocess.Popen", "os.system", "socket.connect", "socket.getaddrinfo"),
}
"""Events of Python's audit hooks."""


class Auditor:
    """Notes what the interpreter reports of this thread while it is `on`. Such a hook cannot be taken out."""

    def __init__(self) -> None:
        self.on = False
        self.found: list[str] = []
        self._thread = threading.get_ident()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and event in BLOCKING and threading.get_ident() == self._thread:
            self.found.append(f"{event} {args[:1]}")


async def test_no_route_blocks_the_loop(
    client: httpx.AsyncClient, world: World, transport: LocalTransport, app: FastAPI
) -> None:
    """Once each has been asked: then modules are loaded and templates are made."""
    auditor, seen = Auditor(), set[str]()
    for on in (False, True):
        job = await ordered(client)
        await world.draw(job["job_id"])
        await transport.caught_up()
        auditor.on = on
        seen = await ask_every_route(client, app, f"/v1/jobs/{job['job_id']}")
        auditor.on = False
    assert auditor.found == []
    assert seen >= {path for path in readable(app) if "events" not in path}
    auditor.on = True
    open("/dev/null").close()  # noqa: ASYNC230, PTH123
    auditor.on = False
    assert len(auditor.found) == 1, "it does hear"


def readable(app: FastAPI) -> set[str]:
    """Paths that answer GET."""
    return {path for path, operations in app.openapi()["paths"].items() if "get" in operations}


async def ask_every_route(client: httpx.AsyncClient, app: FastAPI, path: str) -> set[str]:
    """The routes that are read, as they are described, but for the streams, which need a socket; and those of
    jobs. `path`: of a job that is done."""
    done = (await client.get(path)).json()
    asked = {
        ("GET", "/v1/jobs/{job_id}", path),
        ("GET", "/v1/jobs", "/v1/jobs"),
        ("GET", "/v1/models/{model}/vocabulary", "/v1/models/other/vocabulary"),
        ("GET", "/output/{path}", done["result_urls"][0]),
        ("POST", "/v1/jobs/{job_id}/cancel", f"{path}/cancel"),
        ("POST", "/v1/jobs/{job_id}/retry", f"{path}/retry"),
        ("GET", "/docs", "/docs"),
        ("GET", "/docs", "/docs/static/swagger-ui.css"),
    }
    plain = {route for route in readable(app) if "{" not in route and "events" not in route}
    asked |= {("GET", route, route) for route in plain | {"/openapi.json"}}
    asked |= await brought(client) | await batches(client)
    for method, _, url in asked:
        reply = await client.request(method, url)
        assert reply.status_code in (200, 202), (url, reply.text)
    reply = await client.post("/v1/generate", json=ORDER, headers={"Idempotency-Key": path})
    assert reply.status_code == 202
    assert (await client.post("/v1/generate", json=ORDER | {"dry_run": True})).status_code == 200
    assert (await client.delete(path)).status_code == 204
    return {route for _, route, _ in asked}


async def brought(client: httpx.AsyncClient) -> set[tuple[str, str, str]]:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    sent = await client.post(
        "/v1/uploads", content=file.getvalue(), headers={"content-type": "image/png"}
    )
    return {("GET", "/v1/uploads/{upload_id}", f"/v1/uploads/{sent.json()['upload_id']}")}


async def batches(client: httpx.AsyncClient) -> set[tuple[str, str, str]]:
    sent = await client.post("/v1/batches", json={"orders": [ORDER]})
    path = sent.json()["urls"]["self"]
    return {
        ("GET", "/v1/batches/{batch_id}", path),
        ("GET", "/v1/batches/{batch_id}/rows", f"{path}/rows"),
        ("GET", "/v1/batches/{batch_id}/archive", f"{path}/archive?partial=true"),
    }
