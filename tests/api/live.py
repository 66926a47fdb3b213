"""A real server on a free port of this host, and a reader of its event streams. What is read in process
arrives whole, at its end; a stream has none."""

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
async def listening(app: FastAPI, connections: int = 20) -> AsyncGenerator[httpx.AsyncClient]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        server = Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await server.up.wait()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        limits = httpx.Limits(max_connections=connections)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=WAIT_S) as client:
            yield client
        server.should_exit = True
        await serving


@dataclass(frozen=True)
class Told:
    """One event."""

    kind: str
    rev: str
    data: dict[str, Any]


class Reader:
    """Reads one stream, event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._events = EventSource(response).aiter_sse()

    async def next(self, kind: str | None = None, **said: Any) -> Told:
        """The next event; or the next of this kind, whose data say this."""
        async with asyncio.timeout(WAIT_S):
            async for event in self._events:
                if not event.data:  # what the parser makes of a comment
                    continue
                told = Told(event.event, event.id, json.loads(event.data))
                fits = all(told.data.get(name) == value for name, value in said.items())
                if kind in (None, told.kind) and fits:
                    return told
        raise EOFError("the stream has ended")

    async def rest(self) -> list[Told]:
        """All that comes until it ends."""
        told: list[Told] = []
        with contextlib.suppress(EOFError):
            while True:
                told.append(await self.next())
        return told


@contextlib.asynccontextmanager
async def reading(client: httpx.AsyncClient, path: str, **headers: str) -> AsyncGenerator[Reader]:
    async with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield Reader(response)
