"""Watching: what a stream begins with, what it does not miss, and when it ends. Over a real socket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve_app.api.streams import watching
from tests.api.harness import (
    STEP,
    Hold,
    LocalTransport,
    assert_problem,
    finish,
    limit,
    ordered,
    service_of,
)
from tests.factories import TERMINAL
from tests.jobs.harness import ERROR, World
from tests.serving import WAIT_S, reading

PATHS = pytest.mark.parametrize("which", ["one", "all"])


def path_of(which: str, job_id: str) -> str:
    return "/v1/events" if which == "all" else f"/v1/jobs/{job_id}/events"


# ---- one job ----


@pytest.mark.parametrize("status", sorted(TERMINAL))
async def test_a_stream_of_a_finished_job_is_its_status(
    client: httpx.AsyncClient, world: World, status: str
) -> None:
    job = await ordered(client)
    await world.started(job["job_id"])
    match status:
        case "SUCCESS":
            await finish(world, job["job_id"])
        case "FAILURE":
            assert await world.fail(job["job_id"], 1, ERROR)
        case _:
            await world.registry.cancel(job["job_id"], "local")
    async with reading(client, job["urls"]["events"]) as reader:
        events = await reader.rest()
    assert (events[-1].kind, events[-1].data["status"]) == ("status", status)
    assert all(event.kind != "progress" for event in events)


async def test_a_waiting_job_moves_up(client: httpx.AsyncClient, world: World) -> None:
    """Its place changes without the job, so it is asked for."""
    limit(world, max_in_flight=0)
    first, second = await ordered(client), await ordered(client)
    async with reading(client, second["urls"]["events"]) as reader:
        assert (await reader.next()).data["queue_position"] == 2
        await world.registry.cancel(first["job_id"], "local")
        event = await reader.next()
    assert (event.kind, event.data["queue_position"]) == ("progress", 1)
    assert event.data["waiting_for"] == "turn"


async def test_a_deleted_job_ends_its_stream_with_its_end(client: httpx.AsyncClient) -> None:
    job = await ordered(client)
    async with reading(client, job["urls"]["events"]) as reader:
        await reader.next()
        await client.delete(job["urls"]["self"])
        rest = await reader.rest()
    assert rest[-1].data["status"] == "REVOKED"


async def test_a_job_that_is_deleted_through_another_ingress_ends_its_stream(
    client: httpx.AsyncClient, world: World
) -> None:
    """Its end may never have been seen here."""
    job = await ordered(client)
    async with reading(client, job["urls"]["events"]) as reader:
        await reader.next()
        await world.registry.delete(job["job_id"], "local")
        rest = await reader.rest()
    assert all(event.data["status"] != "SUCCESS" for event in rest)


# ---- all jobs of an owner ----


async def test_looking_at_an_old_job_is_no_event(
    client: httpx.AsyncClient, world: World, transport: LocalTransport, app: FastAPI
) -> None:
    limit(world, max_in_flight=0)
    old, live = await ordered(client), await ordered(client)
    await client.post(old["urls"]["cancel"])
    await transport.caught_up()
    service_of(app).view.forget(old["job_id"])
    async with reading(client, "/v1/events") as reader:
        assert (await reader.next()).data["job_id"] == live["job_id"]
        assert (await client.get(old["urls"]["self"])).status_code == 200
        new = await ordered(client)
        assert (await reader.next(status="PENDING")).data["job_id"] == new["job_id"]


async def test_an_end_between_the_snapshot_and_the_stream_is_told(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """A stream begins with two pages: the job ends when the first has shown it running."""
    job = await ordered(client)
    await world.started(job["job_id"])
    await transport.caught_up()
    first = transport.answered["page"] = Hold()

    async def meanwhile() -> None:
        await first.reached.wait()
        second = transport.answered["page"] = Hold()
        first.released.set()
        await second.reached.wait()
        await finish(world, job["job_id"])
        await transport.caught_up()
        second.released.set()

    moving_on = asyncio.create_task(meanwhile())
    async with reading(client, "/v1/events") as reader:
        assert await reader.next("status", status="SUCCESS")
    await moving_on


async def test_jobs_that_run_come_before_a_long_line(
    client: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.api.service.FIRST_JOBS", 2)
    limit(world, max_in_flight=1)
    running, *waiting = [(await ordered(client))["job_id"] for _ in range(5)]
    await world.started(running)
    async with reading(client, "/v1/events") as reader:
        first = {(await reader.next("status")).data["job_id"] for _ in range(3)}
    assert first == {running, *waiting[-2:]}


async def test_an_eta_is_as_old_as_the_answer_it_came_with(
    client: httpx.AsyncClient, world: World, transport: LocalTransport, app: FastAPI
) -> None:
    """Not as old as the job."""
    first = await ordered(client)
    await world.launched(first["job_id"])
    assert await world.registry.admitted(first["job_id"], 1, 100.0)
    await world.draw(first["job_id"])
    limit(world, max_in_flight=0)
    job = await ordered(client)
    eta = (await world.look(job["job_id"]))["eta_seconds"]
    assert eta
    await transport.caught_up()
    service_of(app).view._heard_at[job["job_id"]] -= 60
    async with reading(client, "/v1/events") as reader:
        event = await reader.next()
    assert event.data["job_id"] == job["job_id"]
    assert event.data["eta_seconds"] == pytest.approx(eta, abs=2)


async def test_without_a_free_seat_the_registry_is_not_asked(
    client: httpx.AsyncClient, transport: LocalTransport, app: FastAPI
) -> None:
    """Many refused readers must cost little."""
    service_of(app).watching.seats.limit = 0
    assert_problem(await client.get("/v1/events"), 503, "too_many_streams")
    assert transport.calls["page"] == 0


async def test_a_seat_is_taken_before_the_registry_is_asked(
    client: httpx.AsyncClient, transport: LocalTransport, app: FastAPI
) -> None:
    """Of many who come at once, only those who get a seat cost a look at the registry."""
    service_of(app).watching.seats.limit = 1
    answer = transport.answered["page"] = Hold()
    await ordered(client)

    async def read() -> None:
        async with reading(client, "/v1/events") as reader:
            assert (await reader.next()).kind == "status"

    opening = asyncio.create_task(read())
    await answer.reached.wait()
    asked = transport.calls["page"]
    assert_problem(await client.get("/v1/events"), 429, "stream_share_taken")
    assert transport.calls["page"] == asked
    answer.released.set()
    await opening


# ---- previews ----


async def test_previews_are_sent_to_who_asks(client: httpx.AsyncClient, world: World) -> None:
    """The renderer is asked for them once."""
    job = await ordered(client)
    await world.started(job["job_id"])
    async with (
        reading(client, job["urls"]["events"] + "?preview=true") as reader,
        reading(client, job["urls"]["events"]) as other,
    ):
        await reader.next("status")
        await world.until(lambda: world.launcher.previewed)
        assert await world.preview(job["job_id"], 1, 0, b"jpeg 1")
        first = await reader.next("preview")
        assert await world.preview(job["job_id"], 1, 0, b"jpeg 2")
        second = await reader.next("preview")
        await finish(world, job["job_id"])
        assert [event.kind for event in await reader.rest()] == ["output", "status"]
        assert "preview" not in [event.kind for event in await other.rest()]
    assert [base64.b64decode(event.data["data"]) for event in (first, second)] == [
        b"jpeg 1",
        b"jpeg 2",
    ]
    assert world.launcher.previewed == [job["job_id"]]


# ---- how a stream ends, or does not ----


@PATHS
async def test_a_stream_ends_when_a_newer_ingress_comes_up(
    client: httpx.AsyncClient, world: World, transport: LocalTransport, which: str
) -> None:
    """A reader that connects again is served: this ingress is not told to go before it is."""
    job = await ordered(client)
    path = path_of(which, job["job_id"])
    await transport.caught_up()
    async with reading(client, path) as reader:
        await reader.next()
        world.registry.deployed()
        assert all(event.kind == "progress" for event in await reader.rest())
    async with reading(client, path) as reader:
        assert (await reader.next()).kind == "status"


@PATHS
async def test_a_stream_ends_after_its_longest_time(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr(watching, "LONGEST_S", 0.0)
    job = await ordered(client)
    async with reading(client, path_of(which, job["job_id"])) as reader:
        assert [event.kind for event in await reader.rest()] == ["status"]


async def test_a_stream_ends_when_it_has_sent_much(
    client: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve's proxy buffers all that is sent, also for a reader that never reads."""
    monkeypatch.setattr(watching, "MOST_BYTES", 20_000)
    job = await ordered(client)
    await world.started(job["job_id"])
    async with reading(client, "/v1/events?preview=true") as reader:
        await reader.next()
        sent = 0
        with contextlib.suppress(EOFError):
            for _ in range(100):
                assert await world.preview(job["job_id"], 1, 0, bytes(3000))
                sent += len((await reader.next("preview")).data["data"])
    assert 12_000 < sent < 30_000
    async with reading(client, job["urls"]["events"]) as reader:
        assert (await reader.next()).data["status"] == "STARTED"


async def test_the_first_events_do_not_end_a_stream_by_their_size(
    client: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody with many large jobs would get them, be sent away, and get them again for ever."""
    monkeypatch.setattr(watching, "MOST_BYTES", 500)
    job = await ordered(client)
    await world.started(job["job_id"])
    async with reading(client, "/v1/events") as reader:
        assert len(str((await reader.next("status", status="STARTED")).data)) > 500
        assert await world.progress(job["job_id"], 1, STEP)
        assert (await reader.next()).kind == "progress"


async def test_streams_do_not_all_end_at_once_when_a_newer_ingress_comes_up(
    client: httpx.AsyncClient,
    world: World,
    transport: LocalTransport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each reader connects again: their ends are spread over a time."""
    monkeypatch.setattr(watching, "SPREAD_S", 1e6)
    job = await ordered(client)
    await transport.caught_up()
    async with reading(client, job["urls"]["events"]) as reader:
        await reader.next()
        world.registry.deployed()
        await transport.caught_up()
        await world.draw(job["job_id"])
        assert await reader.next("status", status="SUCCESS")


@PATHS
@pytest.mark.parametrize("life", ["same", "next"])
async def test_a_stream_outlives_an_absence_of_the_registry(
    client: httpx.AsyncClient,
    world: World,
    transport: LocalTransport,
    which: str,
    life: str,
) -> None:
    """And tells what happened meanwhile. A new life tells by itself only of jobs that run."""
    world.registry.deployed()
    job = await ordered(client)
    await transport.caught_up()
    async with reading(client, path_of(which, job["job_id"])) as reader:
        await reader.next()
        transport.down = True
        await asyncio.wait_for(transport.missed.wait(), WAIT_S)
        await world.draw(job["job_id"])
        if life == "next":
            await world.die_and_rise()
        transport.down = False
        assert await reader.next("status", job_id=job["job_id"], status="SUCCESS")
        if which == "all":
            new = await ordered(client)
            assert await reader.next("status", job_id=new["job_id"])


# ---- held answers ----


async def test_a_job_that_is_deleted_is_waited_for_no_longer(
    client: httpx.AsyncClient, world: World, transport: LocalTransport, app: FastAPI
) -> None:
    """The answer is the job as it was last."""
    limit(world, max_in_flight=0)
    service = service_of(app)
    job = await service.job((await ordered(client))["job_id"], "local")
    waiting = asyncio.create_task(service.watching.until_final(job, 60, "local"))
    await asyncio.wait([waiting], timeout=0)
    await world.registry.delete(job["job_id"], "local")
    found, granted = await asyncio.wait_for(waiting, WAIT_S)
    assert granted
    assert found["job_id"] == job["job_id"]
    assert not service.view.subscribers


async def test_a_job_that_has_ended_already_is_not_waited_for(
    client: httpx.AsyncClient, world: World, transport: LocalTransport, app: FastAPI
) -> None:
    """It ended between the answer that the caller has and the wait."""
    service = service_of(app)
    job = await service.job((await ordered(client))["job_id"], "local")
    await world.draw(job["job_id"])
    await transport.caught_up()
    waiting = service.watching.until_final(job, 60, "local")
    found, granted = await asyncio.wait_for(waiting, WAIT_S)
    assert (found["status"], granted) == ("SUCCESS", True)


async def test_steps_do_not_end_a_wait(
    client: httpx.AsyncClient, world: World, transport: LocalTransport, app: FastAPI
) -> None:
    service = service_of(app)
    job = await service.job((await ordered(client))["job_id"], "local")
    waiting = asyncio.create_task(service.watching.until_final(job, 60, "local"))
    await world.started(job["job_id"])
    assert await world.progress(job["job_id"], 1, STEP)
    await transport.caught_up()
    assert not waiting.done()
    await finish(world, job["job_id"])
    found, granted = await asyncio.wait_for(waiting, WAIT_S)
    assert (found["status"], granted) == ("SUCCESS", True)


async def test_all_events_tell_of_a_batch_at_once_and_of_its_jobs_when_they_begin(
    client: httpx.AsyncClient, world: World
) -> None:
    limit(world, max_in_flight=0)
    there = await batch_of(client, 2)
    async with reading(client, "/v1/events") as reader:
        assert [(await reader.next()).kind for _ in range(2)] == ["status"] * 2
        assert (await reader.next()).data["batch_id"] == there["batch_id"]
        made = await batch_of(client, 9)
        event = await reader.next("batch")
        assert (event.data["batch_id"], event.data["counts"]["PENDING"]) == (made["batch_id"], 9)
        page = await client.get(made["urls"]["rows"])
        first, second, *_ = [row["job_id"] for row in page.json()["results"]]
        limit(world, max_in_flight=3)
        world.registry.resume()
        await world.started(first)
        event = await reader.next("status", batch_id=made["batch_id"])
        assert event.data["job_id"] == first, "nothing is told of those that wait"
        await client.post(made["urls"]["cancel"])
        await reader.next("status", job_id=second, status="REVOKED")
        await reader.next("batch", batch_id=made["batch_id"], status="REVOKED")


async def batch_of(client: httpx.AsyncClient, size: int) -> dict[str, Any]:
    orders = [{"prompt": f"{n}", "style_id": "icon"} for n in range(size)]
    made = await client.post("/v1/batches", json={"orders": orders})
    assert made.status_code == 202, made.text
    return made.json()
