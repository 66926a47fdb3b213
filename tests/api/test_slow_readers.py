"""Clients that ask for a file and hardly read: a thousand of them keep nobody from being served.

Over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from serve_app.api import slow_readers
from tests.api.harness import LocalTransport, make_app, ordered
from tests.jobs.harness import World
from tests.serving import WAIT_S, listening, reading


class Counting:
    """An app that says how many of its requests are being answered."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.open = 0
        self._changed = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.open += 1
        self._changed.set()
        try:
            await self._app(scope, receive, send)
        finally:
            self.open -= 1
            self._changed.set()

    async def are(self, count: int) -> None:
        async with asyncio.timeout(3 * WAIT_S):
            while self.open != count:
                self._changed.clear()
                await self._changed.wait()


async def one_byte(client: httpx.AsyncClient, path: str, left: contextlib.ExitStack) -> None:
    """Ask, read the first byte of the answer, and stay."""
    connection = left.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (client.base_url.host, client.base_url.port))
    await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert await loop.sock_recv(connection, 1) == b"H"


async def test_a_thousand_who_read_one_byte_of_a_file_are_left(
    world: World, transport: LocalTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are served meanwhile, and nothing of them is left."""
    (world.files.root / "large.png").write_bytes(bytes(8_000_000))
    counting = Counting(make_app(transport))
    monkeypatch.setattr(slow_readers, "SEND_TIMEOUT_S", 1.0)
    async with listening(counting, send_buffer=65_536) as client:  # type: ignore[arg-type]
        with contextlib.ExitStack() as left:
            for _ in range(10):
                asked = (one_byte(client, "/output/large.png", left) for _ in range(100))
                await asyncio.gather(*asked)
                assert (await client.get("/healthz")).status_code == 200
            assert counting.open > 0
            job = await ordered(client)
            assert (await client.get(job["urls"]["self"])).status_code == 200
            await counting.are(1)  # the lifespan


async def test_who_reads_slowly_gets_all_of_a_file(
    world: World, transport: LocalTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece that is taken gives as long again."""
    content = bytes(range(256)) * 16_384
    (world.files.root / "large.png").write_bytes(content)
    monkeypatch.setattr(slow_readers, "SEND_TIMEOUT_S", 1.0)
    async with (
        listening(make_app(transport)) as client,
        client.stream("GET", "/output/large.png") as response,
    ):
        assert b"".join([chunk async for chunk in response.aiter_bytes(50_000)]) == content


async def test_a_stream_without_events_is_not_left(
    transport: LocalTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has nothing to send, which is not the reader's doing."""
    monkeypatch.setattr(slow_readers, "SEND_TIMEOUT_S", 0.0)
    async with (
        listening(make_app(transport)) as client,
        reading(client, "/v1/events") as reader,
    ):
        await ordered(client)
        assert (await reader.next()).kind == "status"
