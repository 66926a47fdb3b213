"""The one listening server of the tests: an app on a free port of this host, and a reader of its streams.

An app that is called in process answers when its reply is whole. Streams have no end, so they need a socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from httpx_sse import EventSource

WAIT_S = 20
"""How long a test waits for what must come."""


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@contextlib.asynccontextmanager
async def served(
    app: FastAPI, port: int = 0, *, killed: bool = False, send_buffer: int | None = None
) -> AsyncGenerator[str]:
    """The address where the app listens. `port` 0: a free one. `killed`: in the end all connections break,
    whatever is under way. `send_buffer`: bytes that the kernel takes of an answer that nobody reads."""
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        server = Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await server.up.wait()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        while killed and not serving.done():
            for connection in list(server.server_state.connections):
                connection.transport.abort()  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
            await asyncio.wait([serving], timeout=0.05)
        await serving


@contextlib.asynccontextmanager
async def listening(
    app: FastAPI, send_buffer: int | None = None
) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the app, over a socket."""
    async with served(app, send_buffer=send_buffer) as url:
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=WAIT_S) as client:
            yield client


@dataclass(frozen=True)
class Received:
    """One event."""

    kind: str
    rev: str
    data: dict[str, Any]


class Reader:
    """Reads one stream, event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._events = EventSource(response).aiter_sse()

    async def next(self, kind: str | None = None, **data: Any) -> Received:
        """The next event; with arguments, the next of this kind that has these data."""
        async with asyncio.timeout(WAIT_S):
            async for event in self._events:
                if not event.data:  # the parser makes an empty event of a comment
                    continue
                received = Received(event.event, event.id, json.loads(event.data))
                fits = all(received.data.get(name) == value for name, value in data.items())
                if kind in (None, received.kind) and fits:
                    return received
        raise EOFError("the stream has ended")

    async def rest(self) -> list[Received]:
        """All that comes until the stream ends."""
        events: list[Received] = []
        with contextlib.suppress(EOFError):
            while True:
                events.append(await self.next())
        return events


@contextlib.asynccontextmanager
async def reading(client: httpx.AsyncClient, path: str, **headers: str) -> AsyncGenerator[Reader]:
    async with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield Reader(response)
