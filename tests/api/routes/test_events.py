"""Routes of event streams, over a real socket: who reads what, and where a reader that comes back goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.api.harness import (
    STEP,
    LocalTransport,
    assert_problem,
    finish,
    keys_of,
    limit,
    make_app,
    ordered,
    service_of,
)
from tests.factories import JOB_ID
from tests.jobs.harness import World
from tests.serving import Reader, listening, reading


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    async with listening(app) as client:
        yield client


async def test_a_job_is_told_from_its_snapshot_to_its_end(
    client: httpx.AsyncClient, world: World
) -> None:
    """status, progress, status; then each output and the final status, and the stream is over."""
    limit(world, max_in_flight=0)
    job = await ordered(client)
    async with reading(client, job["urls"]["events"]) as reader:
        headers = reader.response.headers
        first = await reader.next()
        limit(world, max_in_flight=4)
        world.registry.resume()
        await world.started(job["job_id"])
        running = await reader.next("status")
        assert await world.progress(job["job_id"], 1, STEP)
        progress = await reader.next("progress", progress=STEP)
        rev = await finish(world, job["job_id"])
        rest = await reader.rest()
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert (first.kind, first.data) == ("status", job)
    assert (running.data["status"], running.data["queue_position"]) == ("STARTED", None)
    assert progress.data.keys() == {
        *("job_id", "status", "progress", "queue_position", "eta_seconds", "waiting_for"),
    }
    assert (progress.data["job_id"], progress.data["status"]) == (job["job_id"], "STARTED")
    assert [event.kind for event in rest] == ["output", "status"]
    output, status = rest
    found = (await client.get(job["urls"]["self"])).json()
    assert status.data == found
    assert output.data == {"job_id": job["job_id"], **found["images"][0]}
    assert (output.rev, status.rev) == (progress.rev, rev)
    assert (await client.get(output.data["url"])).status_code == 200


@pytest.mark.parametrize("path", ["/v1/events", f"/v1/jobs/{JOB_ID}/events"])
async def test_without_a_registry_no_stream_begins(
    client: httpx.AsyncClient, transport: LocalTransport, app: FastAPI, path: str
) -> None:
    transport.down = True
    assert_problem(await client.get(path), 503, "unavailable")
    assert service_of(app).watching.seats.taken == 0


async def test_all_jobs_are_told_and_only_ours(
    world: World, transport: LocalTransport, tmp_path: Path
) -> None:
    """The live ones first; another owner's not, whatever happens to them."""
    ours, theirs = keys_of(tmp_path / "keys", "ours", "theirs")
    async with listening(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        first = await world.submit(owner="ours")
        foreign = await world.submit(owner="theirs")
        await transport.caught_up()
        response = await client.get(f"/v1/jobs/{foreign}/events", headers=ours)
        assert_problem(response, 404, "not_found")
        assert_problem(await client.get("/v1/events"), 401, "unauthorized")
        async with (
            reading(client, "/v1/events?preview=true", **ours) as reader,
            reading(client, "/v1/events", **theirs) as other,
        ):
            events = [await reader.next("status")]
            await world.started(foreign)
            assert await world.preview(foreign, 1, 0, b"jpeg")
            await finish(world, foreign)
            second = await world.submit(owner="ours")
            events.append(await reader.next("status", job_id=second))
            await world.draw(first)
            events.append(await reader.next("status", status="SUCCESS"))
            end = await other.next("status", status="SUCCESS")
        assert [event.data["job_id"] for event in events] == [first, second, first]
        assert end.data["job_id"] == foreign
    assert foreign not in world.launcher.previewed


async def test_connecting_again_begins_with_a_snapshot(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """Of one job, whatever the reader says it has seen."""
    job = await ordered(client)
    async with reading(client, job["urls"]["events"]) as reader:
        seen = await reader.next()
    await world.started(job["job_id"])
    assert await world.progress(job["job_id"], 1, STEP)
    await transport.caught_up()
    headers = {"Last-Event-ID": seen.rev}
    async with reading(client, job["urls"]["events"], **headers) as reader:
        event = await reader.next()
    assert (event.kind, event.data["status"]) == ("status", "STARTED")
    assert event.data["progress"] == STEP


async def test_what_ended_while_nobody_read_is_told(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """By the `id` that was read last; what ended before it is not told again."""
    limit(world, max_in_flight=0)
    a, b = await ordered(client), await ordered(client)
    await client.post(a["urls"]["cancel"])
    await transport.caught_up()
    async with reading(client, "/v1/events") as reader:
        assert (await reader.next()).data["job_id"] == b["job_id"]
        c = await ordered(client)
        seen = await reader.next(job_id=c["job_id"])
    await client.post(b["urls"]["cancel"])
    await transport.caught_up()
    async with reading(client, "/v1/events", **{"Last-Event-ID": seen.rev}) as reader:
        events = [await reader.next(), await reader.next()]
    assert [(event.data["job_id"], event.data["status"]) for event in events] == [
        (c["job_id"], "PENDING"),
        (b["job_id"], "REVOKED"),
    ]


@pytest.mark.parametrize("dies", [False, True])
async def test_another_ingress_tells_what_ended_while_nobody_read(
    client: httpx.AsyncClient, world: World, transport: LocalTransport, dies: bool
) -> None:
    """Also when its own view begins after that, or the registry was restarted since."""
    job = await ordered(client)
    async with reading(client, "/v1/events") as reader:
        seen = await reader.next()
    await world.draw(job["job_id"])
    if dies:
        await transport.restart()
    async with listening(make_app(LocalTransport(world))) as other:
        headers = {"Last-Event-ID": seen.rev}
        async with reading(other, "/v1/events", **headers) as reader:
            event = await reader.next("status", status="SUCCESS")
    assert event.data["job_id"] == job["job_id"]


async def test_a_reader_cut_off_between_files_and_status_gets_the_status(
    client: httpx.AsyncClient, world: World
) -> None:
    """Only the status has the `id` of the end."""
    job = await ordered(client)
    await world.started(job["job_id"])
    async with reading(client, "/v1/events") as reader:
        await reader.next()
        await finish(world, job["job_id"])
        output = await reader.next("output")
    async with reading(client, "/v1/events", **{"Last-Event-ID": output.rev}) as reader:
        event = await reader.next()
    assert (event.kind, event.data["status"]) == ("status", "SUCCESS")


async def test_who_has_read_the_end_is_told_to_stop(
    client: httpx.AsyncClient, world: World
) -> None:
    """204: after a 200 an EventSource would ask again for ever. An older `id` gets the end once more."""
    job = await ordered(client)
    async with reading(client, job["urls"]["events"]) as reader:
        before = await reader.next()
        await world.started(job["job_id"])
        await finish(world, job["job_id"])
        end = (await reader.rest())[-1]
    again = await client.get(job["urls"]["events"], headers={"Last-Event-ID": end.rev})
    assert (again.status_code, again.content) == (204, b"")
    for sent in (before.rev, "", "x"):
        async with reading(client, job["urls"]["events"], **{"Last-Event-ID": sent}) as reader:
            assert [event.data["status"] for event in await reader.rest()] == ["SUCCESS"]


@pytest.mark.parametrize("sent", ["", "x", "1", "1.x", "-1.5", "9.9", "0.0", "1.99999", "²." * 9])
async def test_any_last_event_id_will_do(client: httpx.AsyncClient, sent: str) -> None:
    job = await ordered(client)
    headers = {b"last-event-id": sent.encode()}
    async with client.stream("GET", "/v1/events", headers=headers) as response:
        event = await Reader(response).next("status", status="PENDING")
    assert event.data["job_id"] == job["job_id"]
