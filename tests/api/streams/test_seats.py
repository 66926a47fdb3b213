"""Seats: how many streams may be open, and what many readers or a bad one cost. Over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from serve_app.api.streams import seats
from serve_app.api.view import LocalView
from serve_app.errors import StreamShareTaken, TooManyStreams
from tests.api.harness import (
    STEP,
    LocalTransport,
    assert_problem,
    finish,
    ordered,
    service_of,
)
from tests.jobs.harness import World
from tests.serving import WAIT_S, reading


class CountedSeats(seats.Seats):
    """Says when one is taken or left."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._changed = asyncio.Event()

    @contextlib.contextmanager
    def taking(self, client: str) -> Generator[None]:
        try:
            with super().taking(client):
                self._changed.set()
                yield
        finally:
            self._changed.set()

    async def are(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.taken != count:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
def counted(app: FastAPI) -> CountedSeats:
    """The seats of the app; a tenth of those that it has by itself."""
    service = service_of(app)
    counted = service.watching.seats = CountedSeats(service.settings.max_streams // 10)
    return counted


def test_a_seat_is_left_however_its_taker_ends() -> None:
    one = seats.Seats(1)
    with contextlib.suppress(KeyError), one.taking("ann"):
        assert not one.free_for("ann")
        raise KeyError
    with one.taking("ann"), pytest.raises(TooManyStreams), one.taking("bob"):
        pass
    assert one.free_for("bob")
    assert not one._held


@pytest.mark.parametrize(("clients", "share"), [(1, 67), (2, 40), (3, 29), (9, 11)])
def test_clients_that_want_all_get_equal_shares_and_leave_one(clients: int, share: int) -> None:
    """Whoever came first. Who holds nothing yet finds a seat, and who holds the most is told so."""
    hundred = seats.Seats(100)
    names = [f"client {number}" for number in range(clients)]
    with contextlib.ExitStack() as open_ones:
        for _ in range(100):
            for name in names:
                if hundred.free_for(name):
                    open_ones.enter_context(hundred.taking(name))
        assert all(abs(hundred._held[name] - share) <= 1 for name in names)
        assert hundred.free_for("who comes next")
        with pytest.raises(StreamShareTaken, match=f"You have {hundred._held[names[0]]} open"):
            open_ones.enter_context(hundred.taking(names[0]))
    assert (hundred.taken, hundred._held) == (0, {})


def test_who_came_first_keeps_what_it_has_and_gets_no_more() -> None:
    hundred = seats.Seats(100)
    with contextlib.ExitStack() as open_ones:
        for name in ("greedy", "late"):
            while hundred.free_for(name):
                open_ones.enter_context(hundred.taking(name))
        assert hundred._held == {"greedy": 67, "late": 22}
        assert not hundred.free_for("greedy")


async def test_seats_are_limited_and_come_back(
    client: httpx.AsyncClient, counted: CountedSeats, app: FastAPI
) -> None:
    """One client asks for all seats at once: its share is served, the rest are told when to come back; and
    the server answers all the while, another client's streams too."""
    count, share = counted.limit, counted.limit * 2 // 3
    job = await ordered(client)
    leave = asyncio.Event()
    replies: list[bytes] = []

    async def visit(number: int) -> None:
        path = "/v1/events" if number % 2 else job["urls"]["events"]
        async with visitor(client, path) as stream:
            head = await stream.readuntil(b"\r\n\r\n")
            replies.append(head)
            if head.startswith(b"HTTP/1.1 200"):
                await stream.readuntil(b"event: status")
                await leave.wait()

    visits = [asyncio.create_task(visit(number)) for number in range(count)]
    async with asyncio.timeout(60):
        while len(replies) < count:
            assert (await client.get("/healthz")).status_code == 200
    refused = [head for head in replies if head.startswith(b"HTTP/1.1 429")]
    assert (len(refused), counted.taken) == (count - share, share)
    assert all(b"\r\nretry-after: 2\r\n" in head for head in refused)
    assert_problem(await client.get("/v1/events"), 429, "stream_share_taken")
    async with reading(client, "/v1/events", **{"X-Client-Id": "bob"}) as reader:
        assert (await reader.next()).kind == "status"
    assert (await client.get(job["urls"]["self"])).status_code == 200
    held = await client.get(job["urls"]["self"], headers={"Prefer": "wait=60"})
    assert "preference-applied" not in held.headers
    leave.set()
    await asyncio.gather(*visits)
    await counted.are(0)
    assert not service_of(app).view.subscribers
    async with reading(client, "/v1/events") as reader:
        assert (await reader.next()).kind == "status"


@contextlib.asynccontextmanager
async def visitor(client: httpx.AsyncClient, path: str) -> AsyncGenerator[asyncio.StreamReader]:
    """A bare connection: hundreds of whole clients would take longer than what is tested."""
    host, port = client.base_url.host, client.base_url.port
    stream, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    try:
        yield stream
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_quiet_stream_is_pinged(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seats, "PING_S", 0.02)
    async with client.stream("GET", "/v1/events") as response, asyncio.timeout(WAIT_S):
        lines = response.aiter_lines()
        pings = 0
        while pings < 3:
            line = await anext(lines)
            assert not line or line.startswith(":"), line
            pings += line.startswith(":")


async def test_a_reader_whose_way_here_is_broken_has_left(app: FastAPI) -> None:
    """Serve cancels its own question for the next message of a reader that leaves: no stream fails by it."""
    sent: list[str] = []

    async def receive() -> Message:
        raise RuntimeError("the request was cancelled")

    async def send(message: Message) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/v1/events", "root_path": ""}
    async with app.router.lifespan_context(app), asyncio.timeout(WAIT_S):
        asked = {**scope, "query_string": b"", "headers": [(b"host", b"localhost")]}
        await app(asked, receive, send)
    assert sent[0] == "http.response.start"
    assert service_of(app).watching.seats.taken == 0


@contextlib.contextmanager
def deaf(client: httpx.AsyncClient, path: str) -> Generator[None]:
    """Asks for a stream and never reads it."""
    url = client.base_url
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((url.host, url.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield


def unsent(view: LocalView) -> int:
    """Jobs that streams have taken in and not made events of."""
    streams = [take.__self__ for take in view.subscribers.all()]  # type: ignore[attr-defined]
    return sum(len(stream._new) for stream in streams)


async def test_a_reader_that_does_not_read_costs_little_and_is_let_go(
    client: httpx.AsyncClient,
    counted: CountedSeats,
    world: World,
    transport: LocalTransport,
    app: FastAPI,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is kept for it grows with the jobs, not with what happens to them; others read on."""
    monkeypatch.setattr(seats, "SEND_TIMEOUT_S", 1.0)
    job = await ordered(client)
    await world.started(job["job_id"])
    view = service_of(app).view
    with deaf(client, "/v1/events?preview=true"):
        await counted.are(1)
        async with reading(client, job["urls"]["events"]) as reader:
            await reader.next("status", status="STARTED")
            step = 0
            async with asyncio.timeout(60):
                while counted.taken > 1:
                    step += 1
                    assert await world.preview(job["job_id"], 1, 0, bytes(500_000))
                    progress = STEP | {"step": step}
                    assert await world.progress(job["job_id"], 1, progress)
                    await reader.next("progress")
                    assert unsent(view) <= 2
            await finish(world, job["job_id"])
            assert (await reader.rest())[-1].data["status"] == "SUCCESS"
        await counted.are(0)
        assert not view.subscribers
