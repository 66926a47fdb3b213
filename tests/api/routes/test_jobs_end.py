"""Cancel, delete and retry: codes, and what each leaves behind."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.harness import (
    JOB_ROUTES,
    ORDER,
    LocalTransport,
    assert_problem,
    get,
    limit,
    ordered,
)
from tests.jobs.harness import DIED, World

# ---- cancel ----


async def test_a_job_is_cancelled_once(client: httpx.AsyncClient) -> None:
    job = await ordered(client)
    first = await client.post(job["urls"]["cancel"])
    again = await client.post(job["urls"]["cancel"])
    assert first.status_code == again.status_code == 200
    assert first.json()["status"] == "REVOKED"
    assert first.json()["error"]["code"] == "cancelled"
    assert first.json() == again.json()
    assert first.headers["etag"] == again.headers["etag"]
    assert "retry-after" not in first.headers
    assert (await get(client, job["urls"]["self"]))["status"] == "REVOKED"


async def test_a_cancelled_job_stays_cancelled(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """Whatever its attempt comes back with, and also after a restart."""
    job = await ordered(client)
    await world.started(job["job_id"])
    cancelled = (await client.post(job["urls"]["cancel"])).json()
    assert not await world.registry.finish(job["job_id"], 1, [world.files.put(job["job_id"], 1)])
    await transport.restart()
    found = await get(client, job["urls"]["self"])
    assert (found["status"], found["result_urls"]) == ("REVOKED", [])
    assert found["error"] == cancelled["error"]


async def test_a_finished_job_stays_as_it_is(client: httpx.AsyncClient, world: World) -> None:
    job = await ordered(client)
    await world.draw(job["job_id"])
    response = await client.post(job["urls"]["cancel"])
    assert (response.status_code, response.json()["status"]) == (200, "SUCCESS")
    assert response.json()["result_urls"]


# ---- delete ----


@pytest.fixture(params=["waiting", "running", "finished"])
async def stage(
    request: pytest.FixtureRequest, client: httpx.AsyncClient, world: World
) -> dict[str, Any]:
    """A job on its way."""
    if request.param == "waiting":
        limit(world, max_in_flight=0)
    job = await ordered(client)
    if request.param == "running":
        await world.started(job["job_id"])
    if request.param == "finished":
        await world.draw(job["job_id"])
    return job


async def test_a_deleted_job_is_gone(
    client: httpx.AsyncClient,
    world: World,
    transport: LocalTransport,
    stage: dict[str, Any],
) -> None:
    """204 without a body; afterwards every route says so, and after a restart too. No file is left."""
    response = await client.delete(stage["urls"]["self"])
    assert (response.status_code, response.content) == (204, b"")
    await world.idle()
    for _ in range(2):
        for method, path in JOB_ROUTES:
            url = stage["urls"]["self"] + path
            assert_problem(await client.request(method, url), 410, "deleted")
        assert_problem(await client.get(f"/output/{stage['job_id']}_1.png"), 404, "not_found")
        assert world.files.names() == []
        assert (await client.get("/v1/jobs")).json()["results"] == []
        await transport.restart()


# ---- retry ----


async def test_a_retry_is_the_same_order_as_a_new_job(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    labels: dict[str, Any] = {
        "priority": "high",
        "tags": ["a", "b"],
        "metadata": {"slot": [10**30, None, "é"]},
    }
    old = await ordered(client, seed=7, n=2, **labels)
    assert_problem(await client.post(old["urls"]["retry"]), 409, "not_final")
    await world.draw(old["job_id"])
    response = await client.post(old["urls"]["retry"])
    assert response.status_code == 202
    new = response.json()
    assert response.headers["location"] == new["urls"]["self"] != old["urls"]["self"]
    assert (new["retry_of"], new["status"], new["deadline"]) == (old["job_id"], "PENDING", None)
    for field in ("request", "resolved", "priority", "tags", "metadata"):
        assert new[field] == old[field], field
    assert (await get(client, old["urls"]["self"]))["status"] == "SUCCESS"
    await client.delete(old["urls"]["self"])
    await world.draw(new["job_id"])
    await transport.caught_up()
    done = await get(client, new["urls"]["self"])
    assert (done["status"], done["retry_of"]) == ("SUCCESS", old["job_id"])


async def test_a_retry_counts_for_the_same_client(client: httpx.AsyncClient, world: World) -> None:
    headers = {"X-Client-Id": "editor"}
    old = (await client.post("/v1/generate", json=ORDER, headers=headers)).json()
    await client.post(old["urls"]["cancel"])
    new = (await client.post(old["urls"]["retry"])).json()
    assert (await world.look(new["job_id"]))["labels"]["client"] == "editor"


@pytest.mark.parametrize("status", ["PENDING", "STARTED", "RETRY"])
async def test_a_job_that_lives_is_not_retried(
    client: httpx.AsyncClient, world: World, status: str
) -> None:
    job = await ordered(client)
    if status != "PENDING":
        await world.started(job["job_id"])
    if status == "RETRY":
        world.launcher.end(job["job_id"], 1, DIED)
        await world.launched(job["job_id"], fence=2)
    body = assert_problem(await client.post(job["urls"]["retry"]), 409, "not_final")
    assert status in body["detail"]
    assert len((await client.get("/v1/jobs")).json()["results"]) == 1


async def test_a_retry_with_a_key_happens_once(client: httpx.AsyncClient, world: World) -> None:
    old = await ordered(client)
    await world.draw(old["job_id"])
    headers = {"Idempotency-Key": "again"}
    first = await client.post(old["urls"]["retry"], headers=headers)
    second = await client.post(old["urls"]["retry"], headers=headers)
    assert first.json()["job_id"] == second.json()["job_id"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert len((await client.get("/v1/jobs")).json()["results"]) == 2
    other = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert_problem(other, 422, "idempotency_key_reuse")


# ---- bodies that say nothing ----


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"headers": {"content-type": "application/json"}},
        {"content": b"{}", "headers": {"content-type": "application/json"}},
        {"headers": {"content-length": "0"}},
    ],
)
@pytest.mark.parametrize("path", ["cancel", "retry"])
async def test_no_body_is_needed(
    client: httpx.AsyncClient, path: str, sent: dict[str, Any]
) -> None:
    job = await ordered(client)
    await client.post(job["urls"]["cancel"])
    response = await client.post(job["urls"][path], **sent)
    assert response.status_code == {"cancel": 200, "retry": 202}[path], response.text
