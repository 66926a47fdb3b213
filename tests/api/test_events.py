"""Event streams over a real socket: what is told, in which order, when a stream ends, and what many
readers or a bad one cost."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve_app.api import events
from serve_app.api.keys import add_key
from serve_app.api.service import JobService
from serve_app.api.view import LocalView
from serve_app.messages import JobFilter, JobPage, JobView, PreviewImage
from tests.api.harness import (
    ORDER,
    UNKNOWN_ID,
    MemoryRegistry,
    altered,
    assert_problem,
    job_view,
    make_app,
)
from tests.api.live import WAIT_S, Reader, listening, reading

A, B, C = (UNKNOWN_ID[:-1] + end for end in "abc")
STEP = {"value": 0.5, "step": 3, "steps": 6, "image": 0, "images": 1, "stage": "denoising"}


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PACE_S", 0.01)
    monkeypatch.setattr(events, "REFRESH_S", 0.05)


class CountedSeats(events.Seats):
    """Says when one is taken or left."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._changed = asyncio.Event()

    @contextlib.contextmanager
    def taking(self) -> Generator[None]:
        try:
            with super().taking():
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
def app(registry: MemoryRegistry, tmp_path: Path) -> FastAPI:
    app = make_app(registry, tmp_path)
    board(app).watching._seats = CountedSeats(board(app).settings.max_streams)
    return app


@pytest.fixture
async def client(app: FastAPI, registry: MemoryRegistry) -> AsyncGenerator[httpx.AsyncClient]:
    async with listening(app) as client:
        await registry.watched()
        yield client


def board(app: FastAPI) -> JobService:
    return app.state.board


def seats(app: FastAPI) -> CountedSeats:
    taken = board(app).watching._seats
    assert isinstance(taken, CountedSeats)
    return taken


def started(registry: MemoryRegistry, job_id: str, **changes: Any) -> JobView:
    said: dict[str, Any] = {"status": "STARTED", "started_at": time.time(), "queue_position": None}
    return registry.change(job_id, **said | changes)


def placed(job_id: str, **said: Any) -> JobView:
    """A job as a reply can show it."""
    params = {
        "subject": "a",
        "subject_negative": "",
        "prompt": "a",
        "negative_prompt": "",
        "style_id": "icon",
        "seed": 1,
        "n": 1,
        "width": 64,
        "height": 64,
        "steps": 6,
        "guidance_scale": 3.0,
        "scheduler": "ddim",
        "model": "tiny",
        "quality": "full",
        "reproducible": None,
        "style_revision": "s",
        "model_revision": "m",
    }
    return job_view(job_id, params=params, **said)


def add(registry: MemoryRegistry, job_id: str, **said: Any) -> JobView:
    registry.jobs[job_id] = placed(job_id, **said)
    return registry.change(job_id)


def look(number: int) -> PreviewImage:
    return PreviewImage(index=0, number=number, data=b"jpeg %d" % number)


# ---- one job ----


async def test_a_job_is_told_from_its_snapshot_to_its_end(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """status, progress, status; then each output and the final status, and the stream is over."""
    job = (await client.post("/v1/generate", json=ORDER)).json()
    async with reading(client, job["urls"]["events"]) as reader:
        headers = reader.response.headers
        first = await reader.next()
        started(registry, job["job_id"])
        running = await reader.next("status")
        registry.change(job["job_id"], progress=STEP)
        progress = await reader.next()
        finished = registry.finish(job["job_id"])
        rest = await reader.rest()
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert (first.kind, first.data["status"], first.rev) == ("status", "PENDING", "1.1")
    assert first.data | {"eta_seconds": None} == job
    assert running.data["status"] == "STARTED"
    assert progress.kind == "progress"
    assert progress.data == {
        "job_id": job["job_id"],
        "status": "STARTED",
        "progress": STEP,
        "queue_position": None,
        "eta_seconds": None,
        "waiting_for": None,
    }
    assert [told.kind for told in rest] == ["output", "status"]
    output, status = rest
    shown = (await client.get(job["urls"]["self"])).json()
    assert status.data == shown
    assert output.data == {"job_id": job["job_id"], **shown["images"][0]}
    assert output.rev == status.rev == finished["rev"]


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "REVOKED"])
async def test_a_stream_of_a_finished_job_is_its_status(
    client: httpx.AsyncClient, registry: MemoryRegistry, status: str
) -> None:
    add(registry, A, status=status)
    async with reading(client, f"/v1/jobs/{A}/events") as reader:
        (told,) = await reader.rest()
    assert (told.kind, told.data["status"]) == ("status", status)


async def test_connecting_again_begins_with_a_snapshot(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """Whatever the reader says it has seen."""
    add(registry, A)
    async with reading(client, f"/v1/jobs/{A}/events") as reader:
        seen = await reader.next()
    started(registry, A, progress=STEP)
    await registry.watched()
    headers = {"Last-Event-ID": seen.rev}
    async with reading(client, f"/v1/jobs/{A}/events", **headers) as reader:
        told = await reader.next()
    assert (told.kind, told.data["status"], told.data["progress"]) == ("status", "STARTED", STEP)


async def test_a_waiting_job_moves_up(client: httpx.AsyncClient, registry: MemoryRegistry) -> None:
    """Its place changes without the job, so it is asked for."""
    add(registry, A, queue_position=3, waiting_for="turn")
    await registry.watched()
    async with reading(client, f"/v1/jobs/{A}/events") as reader:
        assert (await reader.next()).data["queue_position"] == 3
        registry.jobs[A] = altered(registry.jobs[A], queue_position=2)
        told = await reader.next()
    assert (told.kind, told.data["queue_position"]) == ("progress", 2)
    assert told.data["waiting_for"] == "turn"


async def test_a_deleted_job_ends_its_stream_with_its_end(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    add(registry, A)
    async with reading(client, f"/v1/jobs/{A}/events") as reader:
        await reader.next()
        await client.delete(f"/v1/jobs/{A}")
        rest = await reader.rest()
    assert [told.data["status"] for told in rest] == ["REVOKED"]


async def test_a_job_that_somebody_deletes_elsewhere_ends_its_stream(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """Its end may never have been seen here."""
    add(registry, A)
    async with reading(client, f"/v1/jobs/{A}/events") as reader:
        await reader.next()
        await registry.delete(A, "local")
        assert await reader.rest() == []


# ---- all jobs of an owner ----


async def test_all_jobs_are_told_and_only_ours(registry: MemoryRegistry, tmp_path: Path) -> None:
    """The live ones first; another owner's not, whatever happens to it."""
    ours, theirs = (
        {"X-API-Key": add_key(tmp_path / "keys", owner)} for owner in ("ours", "theirs")
    )
    async with listening(make_app(registry, tmp_path, api_keys_file=tmp_path / "keys")) as client:
        await registry.watched()
        add(registry, A, owner="ours")
        add(registry, B, owner="theirs")
        response = await client.get(f"/v1/jobs/{B}/events", headers=ours)
        assert_problem(response, 404, "not_found")
        assert_problem(await client.get("/v1/events"), 401, "unauthorized")
        async with (
            reading(client, "/v1/events?preview=true", **ours) as reader,
            reading(client, "/v1/events", **theirs) as other,
        ):
            told = [await reader.next()]
            started(registry, B, preview=look(1))
            registry.finish(B)
            add(registry, C, owner="ours")
            told.append(await reader.next())
            registry.finish(A)
            told += [await reader.next(), await reader.next()]
            assert {(t.kind, t.data["job_id"]) for t in told} == {
                ("status", A),
                ("status", C),
                ("output", A),
            }
            assert told[-1].data["status"] == "SUCCESS"
            assert (await other.next("status", status="SUCCESS")).data["job_id"] == B
    assert set(registry.shown) == {A, C}


async def test_what_ended_while_nobody_read_is_told(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """By the `id` that was read last; what ended before it is not told again."""
    add(registry, A)
    add(registry, B)
    registry.finish(A)
    async with reading(client, "/v1/events") as reader:
        seen = await reader.next()
        assert seen.data["job_id"] == B
        add(registry, C)
        seen = await reader.next(job_id=C)
    registry.finish(B)
    await registry.watched()
    async with reading(client, "/v1/events", **{"Last-Event-ID": seen.rev}) as reader:
        told = [await reader.next(), await reader.next()]
    assert [(t.data["job_id"], t.data["status"]) for t in told] == [
        (C, "PENDING"),
        (B, "SUCCESS"),
    ]


async def test_another_ingress_tells_what_ended_while_nobody_read(
    client: httpx.AsyncClient, registry: MemoryRegistry, tmp_path: Path
) -> None:
    """Its own view may begin after that."""
    add(registry, A)
    async with reading(client, "/v1/events") as reader:
        seen = await reader.next()
    registry.finish(A)
    async with listening(make_app(registry, tmp_path)) as other:
        headers = {"Last-Event-ID": seen.rev}
        async with reading(other, "/v1/events", **headers) as reader:
            told = await reader.next()
    assert (told.data["job_id"], told.data["status"]) == (A, "SUCCESS")


async def test_a_reader_cut_off_between_files_and_status_gets_the_status(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """Both have the same `id`."""
    add(registry, A)
    async with reading(client, "/v1/events") as reader:
        await reader.next()
        registry.finish(A)
        output = await reader.next("output")
    async with reading(client, "/v1/events", **{"Last-Event-ID": output.rev}) as reader:
        told = await reader.next()
    assert (told.kind, told.data["status"]) == ("status", "SUCCESS")


async def test_ids_grow_within_a_stream(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """So that whoever is cut off in the middle has read all that is older than the last one."""
    for job_id in (A, B, C):
        add(registry, job_id)
    for job_id in (B, A):
        registry.change(job_id)
    async with reading(client, "/v1/events") as reader:
        told = [await reader.next() for _ in range(3)]
        for job_id in (A, B, C, A):
            started(registry, job_id, progress=STEP | {"step": registry._now})
        told += [await reader.next("status", status="STARTED") for _ in range(3)]
    numbers = [int(t.rev.partition(".")[2]) for t in told]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("said", ["", "x", "1", "1.x", "-1.5", "9.9", "0.0", "1.99999", "²." * 9])
async def test_any_last_event_id_will_do(
    client: httpx.AsyncClient, registry: MemoryRegistry, said: str
) -> None:
    add(registry, A)
    headers = {b"last-event-id": said.encode()}
    async with client.stream("GET", "/v1/events", headers=headers) as response:
        assert (await Reader(response).next("status", status="PENDING")).data["job_id"] == A


async def test_looking_at_an_old_job_is_no_event(
    client: httpx.AsyncClient, registry: MemoryRegistry, app: FastAPI
) -> None:
    add(registry, A, status="SUCCESS")
    add(registry, B)
    await registry.watched()
    board(app).view.forget(A)
    async with reading(client, "/v1/events") as reader:
        assert (await reader.next()).data["job_id"] == B
        assert (await client.get(f"/v1/jobs/{A}")).status_code == 200
        add(registry, C)
        assert (await reader.next()).data["job_id"] == C


class Slow(MemoryRegistry):
    """Gives a page, and the world moves on before it arrives."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        page = await super().page(owner, wanted, limit, before, after)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        await self.watched()
        return page


async def test_an_end_between_the_snapshot_and_the_stream_is_told(tmp_path: Path) -> None:
    registry = Slow()
    async with listening(make_app(registry, tmp_path)) as client:
        await registry.watched()
        add(registry, A)
        registry.meanwhile = lambda: registry.finish(A)
        async with reading(client, "/v1/events") as reader:
            assert await reader.next("status", status="SUCCESS")


# ---- previews ----


async def test_previews_are_sent_to_who_asks(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """Also the one that is there already. The registry is asked for them once per job."""
    add(registry, A)
    started(registry, A, preview=look(1))
    await registry.watched()
    async with (
        reading(client, f"/v1/jobs/{A}/events?preview=true") as reader,
        reading(client, f"/v1/jobs/{A}/events") as other,
    ):
        first = await reader.next("preview")
        registry.change(A, progress=STEP)
        await reader.next("progress")
        registry.change(A, preview=look(2))
        second = await reader.next()
        registry.finish(A)
        rest = [told.kind for told in await reader.rest()]
        without = [told.kind for told in await other.rest()]
    assert base64.b64decode(first.data["data"]) == b"jpeg 1"
    assert second.kind == "preview"
    assert second.data | {"data": ""} == {
        "job_id": A,
        "index": 0,
        "content_type": "image/jpeg",
        "data": "",
    }
    assert base64.b64decode(second.data["data"]) == b"jpeg 2"
    assert registry.shown == [A]
    assert rest == ["output", "status"]
    assert "preview" not in without


async def test_nobody_asks_for_previews_that_nobody_reads(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    add(registry, A)
    async with reading(client, f"/v1/jobs/{A}/events") as reader:
        await reader.next()
        started(registry, A, preview=look(1))
        assert (await reader.next()).kind == "status"
        registry.finish(A)
        assert [told.kind for told in await reader.rest()] == ["output", "status"]
    assert registry.shown == []


async def test_preview_is_a_flag(client: httpx.AsyncClient, registry: MemoryRegistry) -> None:
    add(registry, A)
    for path in (f"/v1/jobs/{A}/events", "/v1/events"):
        response = await client.get(f"{path}?preview=please")
        body = assert_problem(response, 422, "invalid_field")
        assert body["errors"][0]["field"] == "preview"


# ---- how a stream ends, or does not ----


async def test_a_quiet_stream_is_pinged(
    client: httpx.AsyncClient, registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PING_S", 0.02)
    async with client.stream("GET", "/v1/events") as response, asyncio.timeout(WAIT_S):
        lines = response.aiter_lines()
        pings = 0
        while pings < 3:
            line = await anext(lines)
            assert not line or line.startswith(":"), line
            pings += line.startswith(":")


async def test_streams_end_when_a_newer_ingress_comes_up(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """Whoever connects again is served: this one is not told to go before it is."""
    add(registry, A)
    for path in (f"/v1/jobs/{A}/events", "/v1/events"):
        async with reading(client, path) as reader:
            await reader.next()
            registry.deploy()
            assert await reader.rest() == []
        async with reading(client, path) as reader:
            assert (await reader.next()).kind == "status"


async def test_streams_end_after_their_longest_time(
    client: httpx.AsyncClient, registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LONGEST_S", 0.0)
    add(registry, A)
    for path in (f"/v1/jobs/{A}/events", "/v1/events"):
        async with reading(client, path) as reader:
            assert [told.kind for told in await reader.rest()] == ["status"]


@pytest.mark.parametrize("path", [f"/v1/jobs/{A}/events", "/v1/events"])
@pytest.mark.parametrize("life", ["same", "next"])
async def test_a_stream_outlives_an_absence_of_the_registry(
    client: httpx.AsyncClient, registry: MemoryRegistry, path: str, life: str
) -> None:
    """And tells what happened meanwhile, also where a new life begins with what runs and no more."""
    registry.deployment = 3
    add(registry, A)
    await registry.watched()
    async with reading(client, path) as reader:
        await reader.next()
        registry.down = True
        await asyncio.wait_for(registry.missed.wait(), WAIT_S)
        registry.finish(A)
        if life == "next":
            registry.restart()
            registry.deployment = 0
        registry.down = False
        told = await reader.next("status", job_id=A)
        assert told.data["status"] == "SUCCESS"
        if path == "/v1/events":
            add(registry, B)
            assert (await reader.next()).data["job_id"] == B


async def test_without_a_registry_no_stream_begins(
    client: httpx.AsyncClient, registry: MemoryRegistry, app: FastAPI
) -> None:
    registry.down = True
    for path in ("/v1/events", f"/v1/jobs/{A}/events"):
        assert_problem(await client.get(path), 503, "unavailable")
    assert seats(app).taken == 0


async def test_an_eta_is_as_old_as_the_answer_it_came_with(
    client: httpx.AsyncClient, registry: MemoryRegistry, app: FastAPI
) -> None:
    """Not as old as what was heard of the job when it was ordered."""
    add(registry, A, queue_position=3, eta_seconds=50.0)
    await registry.watched()
    board(app).view._told_at[A] -= 60
    async with reading(client, "/v1/events") as reader:
        assert (await reader.next()).data["eta_seconds"] == pytest.approx(50, abs=2)


async def test_jobs_that_run_come_before_a_long_line(
    client: httpx.AsyncClient, registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.api.service.FIRST_JOBS", 2)
    running, *waiting = (f"{UNKNOWN_ID[:-2]}{i:02}" for i in range(5))
    for job_id in (running, *waiting):
        registry.jobs[job_id] = placed(job_id)
    registry.jobs[running] = placed(running, status="STARTED", started_at=time.time())
    async with reading(client, "/v1/events") as reader:
        told = {(await reader.next("status")).data["job_id"] for _ in range(3)}
    assert told == {running, *waiting[-2:]}


# ---- many readers, and bad ones ----


async def test_a_stream_ends_when_it_has_said_much(
    client: httpx.AsyncClient, registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve's proxy takes all that is sent, for a reader that never reads too; whoever reads comes back."""
    monkeypatch.setattr(events, "MOST_BYTES", 20_000)
    add(registry, A)
    async with reading(client, "/v1/events?preview=true") as reader:
        await reader.next()
        said = 0
        with contextlib.suppress(EOFError):
            for step in range(100):
                started(registry, A, preview=PreviewImage(index=0, number=step, data=bytes(3000)))
                said += len((await reader.next("preview")).data["data"])
    assert 16_000 < said < 30_000
    async with reading(client, f"/v1/jobs/{A}/events") as reader:
        assert (await reader.next()).data["status"] == "STARTED"


async def test_seats_are_limited_and_come_back(registry: MemoryRegistry, app: FastAPI) -> None:
    """Five hundred at once: as many as there are seats are served, the rest are told when to come
    back; and the server answers all the while."""
    most, count = board(app).settings.max_streams, 500
    assert most < count
    add(registry, A)
    async with listening(app) as client:
        await registry.watched()
        leave = asyncio.Event()
        replies: list[bytes] = []

        async def visit(number: int) -> None:
            path = "/v1/events" if number % 2 else f"/v1/jobs/{A}/events"
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
        refused = [head for head in replies if head.startswith(b"HTTP/1.1 503")]
        assert (len(refused), seats(app).taken) == (count - most, most)
        assert all(b"\r\nretry-after: 2\r\n" in head for head in refused)
        assert_problem(await client.get("/v1/events"), 503, "too_many_streams")
        assert (await client.get(f"/v1/jobs/{A}")).status_code == 200
        held = await client.get(f"/v1/jobs/{A}", headers={"Prefer": "wait=60"})
        assert "preference-applied" not in held.headers
        leave.set()
        await asyncio.gather(*visits)
        await seats(app).are(0)
        assert not board(app).view._subscribers
        async with reading(client, "/v1/events") as reader:
            assert (await reader.next()).kind == "status"


@contextlib.asynccontextmanager
async def visitor(client: httpx.AsyncClient, path: str) -> AsyncGenerator[asyncio.StreamReader]:
    """A connection without a client around it: hundreds of those would be what is measured."""
    host, port = client.base_url.host, client.base_url.port
    stream, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    try:
        yield stream
    finally:
        writer.close()
        await writer.wait_closed()


@contextlib.contextmanager
def deaf(client: httpx.AsyncClient, path: str) -> Generator[None]:
    """Asks for a stream and never reads it."""
    url = client.base_url
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((url.host, url.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield


def waiting_events(view: LocalView) -> int:
    """Jobs that streams have yet to tell of."""
    streams = [hear.__self__ for hear in view._subscribers]  # type: ignore[attr-defined]
    return sum(len(stream._new) for stream in streams)


async def test_a_reader_that_does_not_read_costs_little_and_is_let_go(
    client: httpx.AsyncClient,
    registry: MemoryRegistry,
    app: FastAPI,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is kept for it grows with the jobs, not with what happens to them; others read on."""
    monkeypatch.setattr(events, "SEND_TIMEOUT_S", 1.0)
    add(registry, A)
    with deaf(client, "/v1/events?preview=true"):
        await seats(app).are(1)
        async with reading(client, f"/v1/jobs/{A}/events") as reader:
            await reader.next()
            started(registry, A)
            await reader.next("status")
            step = 0
            async with asyncio.timeout(60):
                while seats(app).taken > 1:
                    step += 1
                    preview = PreviewImage(index=0, number=step, data=bytes(500_000))
                    registry.change(A, preview=preview, progress=STEP | {"step": step})
                    await reader.next("progress")
                    assert waiting_events(board(app).view) <= 2
            registry.finish(A)
            assert (await reader.rest())[-1].data["status"] == "SUCCESS"
        await seats(app).are(0)
        assert not board(app).view._subscribers
