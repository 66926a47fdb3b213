"""The HTTP side on the real registry and its store, without Ray: the two speak the same words."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve_app.api.asgi import create_app
from serve_app.config import Settings
from serve_app.messages import (
    JobFilter,
    JobPage,
    JobView,
    Submission,
    SubmitReply,
    Tombstone,
    WatchReply,
)
from tests.api.harness import MODELS, ORDER, STYLES, assert_problem, serving
from tests.api.live import listening, reading
from tests.jobs.harness import LIMITS, SETTLED, World


class InProcessRegistry:
    """RegistryPort over the registry of a World, whichever lives."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def submit(self, order: Submission) -> SubmitReply:
        return await self.world.registry.submit(order)

    async def get(self, job_id: str) -> JobView | Tombstone | None:
        return await self.world.registry.get(job_id)

    async def cancel(self, job_id: str, owner: str) -> JobView | Tombstone | None:
        return await self.world.registry.cancel(job_id, owner)

    async def delete(self, job_id: str, owner: str) -> Tombstone | None:
        return await self.world.registry.delete(job_id, owner)

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        return await self.world.registry.page(owner, wanted, limit, before, after)

    async def estimate(self, params: dict[str, Any], client: str) -> float | None:
        return self.world.registry.estimate(params, client)

    async def show(self, job_id: str) -> None:
        await self.world.registry.send_previews(job_id)

    async def watch(self, epoch: int, seq: int, timeout_s: float) -> WatchReply:
        return await self.world.registry.watch(epoch, seq, timeout_s)

    async def readiness(self) -> str | None:
        return None


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with World(tmp_path, {"max_pending": 5}) as world:
        yield world


@pytest.fixture
def app(world: World) -> FastAPI:
    given = {"output_dir": world.files.root, "state_dir": world.directory / "state"}
    return create_app(
        Settings.model_validate(given),
        InProcessRegistry(world),
        styles=STYLES,
        models=MODELS,
        active="tiny",
        revision_of=lambda name: f"{name}-weights",
    )


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    async with serving(app) as client:
        yield client


async def order(client: httpx.AsyncClient, **headers: str) -> dict[str, Any]:
    response = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert response.status_code == 202, response.text
    return response.json()


async def until(
    client: httpx.AsyncClient, world: World, job: dict[str, Any], status: str
) -> dict[str, Any]:
    """Poll whenever the registry says that something changed."""
    seq = 0
    async with asyncio.timeout(10):
        while (shown := (await client.get(job["urls"]["self"])).json())["status"] != status:
            seq = (await world.registry.watch(world.registry.epoch, seq, 0.05))["seq"]
    return shown


async def test_an_order_becomes_a_file(client: httpx.AsyncClient, world: World) -> None:
    """Order, poll, fetch."""
    job = await order(client)
    await world.draw(job["job_id"])
    done = await until(client, world, job, "SUCCESS")
    (url,) = done["result_urls"]
    response = await client.get(url)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert len(response.content) == done["images"][0]["size_bytes"]
    assert done["metrics"]["execution_ms"] is not None


async def test_a_key_is_kept_by_the_store(client: httpx.AsyncClient, world: World) -> None:
    """Also by the next life of the registry."""
    job = await order(client, **{"Idempotency-Key": "one"})
    await world.die_and_rise()
    again = await order(client, **{"Idempotency-Key": "one"})
    assert again["job_id"] == job["job_id"]
    other = {"Idempotency-Key": "one"}
    response = await client.post("/v1/generate", json=ORDER | {"n": 2}, headers=other)
    assert_problem(response, 422, "idempotency_key_reuse")


async def test_a_full_line_is_429(client: httpx.AsyncClient) -> None:
    replies = [await client.post("/v1/generate", json=ORDER) for _ in range(20)]
    assert replies[0].status_code == 202
    assert_problem(replies[-1], 429, "queue_full")


async def test_a_restarted_registry_is_followed(client: httpx.AsyncClient, world: World) -> None:
    """The view starts over with the new epoch; the job is there, and goes on."""
    job = await order(client)
    await world.started(job["job_id"])
    await until(client, world, job, "STARTED")
    await world.die_and_rise()
    await world.draw(job["job_id"], fence=2)
    done = await until(client, world, job, "SUCCESS")
    assert len(done["result_urls"]) == 1


# ---- the life of a job ----


async def walk(client: httpx.AsyncClient, path: str, way: str = "next") -> list[dict[str, Any]]:
    """All jobs of a list, page by page; an empty page may have a next one."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while path:
            page = (await client.get(path)).json()
            found += page["results"] if way == "next" else reversed(page["results"])
            path = page[way]
    return found


def ids(jobs: list[dict[str, Any]]) -> list[str]:
    return [job["job_id"] for job in jobs]


async def ordered(client: httpx.AsyncClient, world: World, **body: Any) -> dict[str, Any]:
    response = await client.post("/v1/generate", json=ORDER | body)
    assert response.status_code == 202, response.text
    return response.json()


@pytest.fixture
def roomy(world: World) -> World:
    """A line that is long enough for a list."""
    world.limits["max_pending"] = 1000
    world.registry.configure(dataclasses.replace(LIMITS, max_pending=1000))
    return world


async def test_a_cancelled_job_stays_cancelled(client: httpx.AsyncClient, world: World) -> None:
    """Also in the next life, and whatever its attempt comes back with."""
    job = await order(client)
    await world.started(job["job_id"])
    cancelled = (await client.post(job["urls"]["cancel"])).json()
    assert (cancelled["status"], cancelled["error"]["code"]) == ("REVOKED", "cancelled")
    assert not await world.registry.finish(job["job_id"], 1, [world.files.put(job["job_id"], 1)])
    await world.die_and_rise()
    shown = await until(client, world, job, "REVOKED")
    assert (shown["error"], shown["result_urls"]) == (cancelled["error"], [])


async def test_a_deleted_job_takes_its_files_along(client: httpx.AsyncClient, world: World) -> None:
    job = await order(client)
    await world.draw(job["job_id"])
    done = await until(client, world, job, "SUCCESS")
    (url,) = done["result_urls"]
    assert (await client.get(url)).status_code == 200
    assert (await client.delete(job["urls"]["self"])).status_code == 204
    assert_problem(await client.get(url), 404, "not_found")
    assert world.files.names() == []
    for _ in range(2):
        assert_problem(await client.get(job["urls"]["self"]), 410, "deleted")
        assert_problem(await client.delete(job["urls"]["self"]), 410, "deleted")
        assert_problem(await client.post(job["urls"]["cancel"]), 410, "deleted")
        assert_problem(await client.post(job["urls"]["retry"]), 410, "deleted")
        await world.die_and_rise()
    assert await walk(client, "/v1/jobs") == []


async def test_a_live_job_is_cancelled_and_deleted(client: httpx.AsyncClient, world: World) -> None:
    job = await order(client)
    await world.started(job["job_id"])
    assert (await client.delete(job["urls"]["self"])).status_code == 204
    await world.idle()
    assert_problem(await client.get(job["urls"]["self"]), 410, "deleted")
    assert not await world.registry.finish(job["job_id"], 1, [])


async def test_a_retry_is_a_job_of_its_own(client: httpx.AsyncClient, world: World) -> None:
    labels = {"tags": ["a", "b"], "metadata": {"slot": 10**30}, "priority": "high"}
    old = await ordered(client, world, **labels)
    assert_problem(await client.post(old["urls"]["retry"]), 409, "not_final")
    await client.post(old["urls"]["cancel"])
    headers = {"Idempotency-Key": "again"}
    new = (await client.post(old["urls"]["retry"], headers=headers)).json()
    again = (await client.post(old["urls"]["retry"], headers=headers)).json()
    assert new["job_id"] == again["job_id"] != old["job_id"]
    assert (new["retry_of"], new["status"]) == (old["job_id"], "PENDING")
    for field in ("request", "resolved", "tags", "metadata", "priority"):
        assert new[field] == old[field], field
    await client.delete(old["urls"]["self"])
    await world.draw(new["job_id"])
    done = await until(client, world, new, "SUCCESS")
    assert done["retry_of"] == old["job_id"]


async def test_a_job_past_its_deadline_is_revoked(client: httpx.AsyncClient, world: World) -> None:
    """And who waits for it is told at once."""
    headers = {"Cancel-After": "1s", "Prefer": "wait=30"}
    response = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert response.status_code == 200
    job = response.json()
    assert (job["status"], job["error"]["code"]) == ("REVOKED", "deadline_exceeded")
    assert job["completed_at"] >= job["deadline"]


async def test_a_held_order_is_answered_when_its_file_is_there(
    client: httpx.AsyncClient, world: World
) -> None:
    held = asyncio.create_task(
        client.post("/v1/generate", json=ORDER, headers={"Prefer": "wait=30"})
    )
    await world.until(lambda: world.launcher.running)
    ((job_id, _),) = world.launcher.running
    await world.draw(job_id)
    response = await asyncio.wait_for(held, 20)
    assert response.status_code == 200
    assert (await client.get(response.json()["result_urls"][0])).status_code == 200


async def test_filters_find_what_they_say(client: httpx.AsyncClient, roomy: World) -> None:
    plain = await ordered(client, roomy, tags=["a"])
    styled = await ordered(client, roomy, tags=["a", "b"], style_id="none")
    last = await ordered(client, roomy)
    await client.post(plain["urls"]["cancel"])
    await roomy.draw(last["job_id"])
    newest_first = [last, styled, plain]
    for query, found in {
        "": newest_first,
        "status=REVOKED": [plain],
        "status=REVOKED&status=SUCCESS": [last, plain],
        "status=FAILURE": [],
        "style_id=icon": [last, plain],
        "style_id=nope": [],
        "tag=a": [styled, plain],
        "tag=b": [styled],
        "tag=a&style_id=icon&status=REVOKED": [plain],
        "tag=a&status=SUCCESS": [],
        "created_before=2000-01-01T00:00:00Z": [],
        "created_after=2000-01-01T00:00:00Z": newest_first,
    }.items():
        assert ids(await walk(client, f"/v1/jobs?limit=2&{query}")) == ids(found), query


async def test_a_jobs_own_time_is_where_a_list_begins(
    client: httpx.AsyncClient, roomy: World
) -> None:
    """To the microsecond: `created_after` includes it, `created_before` does not."""
    jobs = [await ordered(client, roomy) for _ in range(40)]
    for at, job in enumerate(jobs):
        after = await walk(client, f"/v1/jobs?created_after={job['created_at']}")
        before = await walk(client, f"/v1/jobs?created_before={job['created_at']}")
        assert ids(after) == ids(jobs[at:])[::-1]
        assert ids(before) == ids(jobs[:at])[::-1]


@pytest.mark.parametrize("query", ["", "tag=a&", "status=PENDING&status=STARTED&"])
async def test_each_job_comes_once_while_jobs_arrive(
    client: httpx.AsyncClient, roomy: World, query: str
) -> None:
    """Both ways: those of the beginning all, in their order; new ones only on the way back."""
    old = [await ordered(client, roomy, tags=["a"]) for _ in range(23)]
    found: list[dict[str, Any]] = []
    path, last = f"/v1/jobs?{query}limit=4", None
    new: list[dict[str, Any]] = []
    while path:
        page = (await client.get(path)).json()
        found += page["results"]
        path, last = page["next"], page
        new.append(await ordered(client, roomy, tags=["a"]))
    assert ids(found) == ids(old)[::-1]
    assert last is not None
    back = await walk(client, last["previous"], "previous")
    assert ids(last["results"])[::-1] + ids(back) == ids(old + new)


async def test_a_list_is_the_owners(client: httpx.AsyncClient, roomy: World) -> None:
    await roomy.submit(owner="somebody", params=await resolved(client))
    ours = await ordered(client, roomy)
    assert ids(await walk(client, "/v1/jobs")) == [ours["job_id"]]


async def resolved(client: httpx.AsyncClient) -> dict[str, Any]:
    """Parameters as the application resolves them."""
    said = (await client.post("/v1/generate", json=ORDER | {"dry_run": True})).json()
    subject = {"subject": said["request"]["prompt"], "subject_negative": ""}
    return said["request"] | said["resolved"] | subject


async def test_a_dry_run_is_estimated_once_something_has_run(
    client: httpx.AsyncClient, world: World
) -> None:
    """And still nothing is ordered."""
    dry = ORDER | {"dry_run": True}
    assert (await client.post("/v1/generate", json=dry)).json()["estimated_seconds"] is None
    job = await order(client)
    await world.launched(job["job_id"])
    assert await world.registry.admitted(job["job_id"], 1, 2.0)
    await world.draw(job["job_id"])
    said = (await client.post("/v1/generate", json=dry)).json()
    assert said["possible"]
    assert said["estimated_seconds"] > 0
    assert len(await walk(client, "/v1/jobs")) == 1


# ---- streams ----


async def draw_on(world: World, job_id: str) -> None:
    """Play the rest of a first attempt that has started."""
    assert await world.registry.finish(job_id, 1, [world.files.put(job_id, 1)])
    world.launcher.end(job_id, 1, SETTLED)


async def test_a_job_is_watched_from_the_line_to_its_file(app: FastAPI, world: World) -> None:
    """A running job is before it; then it runs, shows a preview, and its file is told."""
    world.registry.configure(dataclasses.replace(LIMITS, max_in_flight=1))
    async with listening(app) as client:
        running, waiting = await order(client), await order(client)
        await world.started(running["job_id"])
        path = waiting["urls"]["events"] + "?preview=true"
        async with reading(client, path) as reader:
            first = await reader.next()
            await draw_on(world, running["job_id"])
            await world.started(waiting["job_id"])
            begun = await reader.next("status", status="STARTED")
            assert await world.registry.preview(waiting["job_id"], 1, 0, b"jpeg")
            shown = await reader.next("preview")
            await draw_on(world, waiting["job_id"])
            output, status = await reader.rest()
        assert (first.kind, first.data["status"]) == ("status", "PENDING")
        assert begun.data["queue_position"] is None
        assert shown.data["index"] == 0
        assert output.data["url"] == status.data["result_urls"][0]
        assert (await client.get(output.data["url"])).status_code == 200


@pytest.mark.parametrize("dies", [False, True])
async def test_a_reader_that_comes_back_hears_what_ended(
    app: FastAPI, world: World, dies: bool
) -> None:
    """Also when the registry has died since, and nobody knows what the reader has seen."""
    async with listening(app) as client:
        job = await order(client)
        async with reading(client, "/v1/events") as reader:
            seen = await reader.next()
        await world.draw(job["job_id"])
        if dies:
            await world.die_and_rise()
        async with reading(client, "/v1/events", **{"Last-Event-ID": seen.rev}) as reader:
            told = await reader.next("status", status="SUCCESS")
    assert told.data["job_id"] == job["job_id"]
