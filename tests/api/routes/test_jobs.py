"""Routes of jobs, from an order to its files: codes, headers, and what each leaves behind."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve_app.messages import JobError
from tests.api.harness import (
    ORDER,
    STEP,
    LocalTransport,
    assert_problem,
    keys_of,
    limit,
    make_app,
    ordered,
    service_of,
    serving,
)
from tests.factories import JOB_ID, TERMINAL
from tests.jobs.harness import DIED, World

ROUTES = [("POST", "/cancel"), ("POST", "/retry"), ("DELETE", ""), ("GET", ""), ("GET", "/events")]


async def get(client: httpx.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    response = await client.get(job["urls"]["self"])
    assert response.status_code == 200, response.text
    return response.json()


# ---- order ----


async def test_an_order_is_answered_with_the_whole_job(
    client: httpx.AsyncClient, world: World
) -> None:
    """202, where to ask, when to ask, and every choice made."""
    response = await client.post("/v1/generate", json=ORDER | {"seed": 7, "size": "64x128"})
    assert response.status_code == 202
    job = response.json()
    assert uuid.UUID(job["job_id"]).version == 7
    assert response.headers["location"] == job["urls"]["self"] == f"/v1/jobs/{job['job_id']}"
    assert response.headers["retry-after"] == "1"
    assert (job["status"], job["result_urls"], job["queue_position"]) == ("PENDING", [], 1)
    assert job["created_at"].endswith("Z")
    assert job["request"]["seed"] == 7
    assert (job["request"]["width"], job["request"]["height"]) == (64, 128)
    assert job["request"]["steps"] == 6
    assert job["resolved"]["prompt"] == "a red potion, game icon"
    assert (await world.look(job["job_id"]))["params"]["model_revision"] == "tiny-weights"


async def test_an_order_becomes_a_file(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    job = await ordered(client)
    await world.draw(job["job_id"])
    await transport.caught_up()
    done = await get(client, job)
    assert (done["status"], done["queue_position"], done["eta_seconds"]) == ("SUCCESS", None, None)
    (url,) = done["result_urls"]
    assert url == done["images"][0]["url"] == f"/output/{job['job_id']}_1.png"
    response = await client.get(url)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert len(response.content) == done["images"][0]["size_bytes"]
    assert done["metrics"]["execution_ms"] is not None


async def test_a_request_as_it_is_returned_orders_the_same(
    client: httpx.AsyncClient, world: World
) -> None:
    """`request` of a job, posted again, resolves to the same parameters."""
    first = await ordered(client, quality="draft")
    again = (await client.post("/v1/generate", json=first["request"])).json()
    params = [(await world.look(job["job_id"]))["params"] for job in (first, again)]
    assert params[0] == params[1]


async def test_labels_are_kept_and_returned(client: httpx.AsyncClient) -> None:
    """Tags once each, in the order they came; metadata unchanged."""
    tags = ["b", "a:1", "b", "x/y.z_-"]
    metadata: dict[str, Any] = {"é": [1, 2.5, None, True, {"big": 10**30}], "": ""}
    job = await ordered(client, tags=tags, metadata=metadata, priority="low")
    assert job["tags"] == ["b", "a:1", "x/y.z_-"]
    assert (job["metadata"], job["priority"]) == (metadata, "low")
    (listed,) = (await client.get("/v1/jobs")).json()["results"]
    assert (listed["tags"], listed["metadata"]) == (job["tags"], metadata)


async def test_without_labels_a_job_has_plain_ones(client: httpx.AsyncClient) -> None:
    job = await ordered(client)
    assert (job["tags"], job["metadata"], job["priority"]) == ([], {}, "normal")
    assert (job["deadline"], job["retry_of"]) == (None, None)


async def test_without_a_registry_an_order_is_503(
    client: httpx.AsyncClient, transport: LocalTransport
) -> None:
    transport.down = True
    assert_problem(await client.post("/v1/generate", json=ORDER), 503, "unavailable")


async def test_a_full_line_is_429(client: httpx.AsyncClient, world: World) -> None:
    """And says when to come back."""
    limit(world, max_in_flight=0, max_pending=2)
    for _ in range(2):
        await ordered(client)
    response = await client.post("/v1/generate", json=ORDER)
    assert_problem(response, 429, "queue_full")
    assert response.headers["retry-after"] == "10"


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}])
async def test_an_order_needs_a_body(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.post("/v1/generate", headers=headers)
    body = assert_problem(response, 422, "invalid_field")
    assert body["errors"][0]["field"] == "body"
    assert body["errors"][0]["pointer"] == "#"


# ---- Idempotency-Key ----


async def test_a_key_replays_its_job(client: httpx.AsyncClient, world: World) -> None:
    """As it is by now, with the seed drawn the first time; written in another way it is the same."""
    headers = {"Idempotency-Key": "one"}
    first = await client.post("/v1/generate", json=ORDER, headers=headers)
    await world.draw(first.json()["job_id"])
    again = await client.post("/v1/generate", json=ORDER | {"seed": None, "n": 1}, headers=headers)
    assert again.status_code == 202
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert "retry-after" not in again.headers
    assert again.json()["job_id"] == first.json()["job_id"]
    assert again.json()["status"] == "SUCCESS"
    assert again.json()["request"] == first.json()["request"]


async def test_a_key_outlives_the_registry(
    client: httpx.AsyncClient, transport: LocalTransport
) -> None:
    """And with another body it is refused."""
    headers = {"Idempotency-Key": "one"}
    first = await client.post("/v1/generate", json=ORDER, headers=headers)
    await transport.restart()
    again = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert again.json()["job_id"] == first.json()["job_id"]
    other = await client.post("/v1/generate", json=ORDER | {"n": 2}, headers=headers)
    assert_problem(other, 422, "idempotency_key_reuse")


async def test_a_dry_run_and_its_order_have_the_same_key(client: httpx.AsyncClient) -> None:
    """But another priority is another order."""
    headers = {"Idempotency-Key": "one"}
    first = await client.post("/v1/generate", json=ORDER | {"dry_run": False}, headers=headers)
    again = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert first.json()["job_id"] == again.json()["job_id"]
    other = await client.post("/v1/generate", json=ORDER | {"priority": "high"}, headers=headers)
    assert_problem(other, 422, "idempotency_key_reuse")


async def test_the_key_of_a_deleted_job_is_free_again(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "one"}
    job = (await client.post("/v1/generate", json=ORDER, headers=headers)).json()
    await client.delete(job["urls"]["self"])
    response = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert response.status_code == 202
    assert response.json()["job_id"] != job["job_id"]


# ---- dry_run ----


async def test_a_dry_run_orders_nothing(client: httpx.AsyncClient) -> None:
    """It says what the order would be, every choice made; and its key is still free."""
    headers = {"Idempotency-Key": "one", "Prefer": "wait=0"}
    body = ORDER | {"seed": 7, "dry_run": True}
    response = await client.post("/v1/generate", json=body, headers=headers)
    assert response.status_code == 200
    estimate = response.json()
    assert estimate["request"]["steps"] == 6
    assert estimate["request"]["seed"] == 7
    assert estimate["resolved"]["prompt"] == "a red potion, game icon"
    assert (estimate["possible"], estimate["reason"]) == (True, None)
    assert "location" not in response.headers
    assert (await client.get("/v1/jobs")).json()["results"] == []
    job = await client.post("/v1/generate", json=ORDER | {"seed": 7}, headers=headers)
    assert "idempotency-replayed" not in job.headers
    assert job.json()["request"] == estimate["request"]
    assert job.json()["resolved"] == estimate["resolved"]


async def test_a_dry_run_is_estimated_once_something_has_run(
    client: httpx.AsyncClient, world: World
) -> None:
    dry = ORDER | {"dry_run": True}
    assert (await client.post("/v1/generate", json=dry)).json()["estimated_seconds"] is None
    job = await ordered(client)
    await world.launched(job["job_id"])
    assert await world.registry.admitted(job["job_id"], 1, 2.0)
    await world.draw(job["job_id"])
    estimate = (await client.post("/v1/generate", json=dry)).json()
    assert estimate["possible"]
    assert estimate["estimated_seconds"] > 0


async def test_a_dry_run_says_why_it_would_not_be_served(
    client: httpx.AsyncClient, transport: LocalTransport
) -> None:
    transport.reason = "the renderer is not healthy"
    estimate = (await client.post("/v1/generate", json=ORDER | {"dry_run": True})).json()
    assert (estimate["possible"], estimate["reason"]) == (False, "the renderer is not healthy")
    assert estimate["estimated_seconds"] is None


async def test_a_dry_run_of_a_wrong_order_is_422(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/generate", json=ORDER | {"dry_run": True, "steps": 10_000})
    assert_problem(response, 422, "invalid_field")


# ---- Cancel-After ----


async def test_a_job_past_its_deadline_is_revoked(client: httpx.AsyncClient) -> None:
    """And a client that waits for it is answered at once."""
    headers = {"Cancel-After": "1s", "Prefer": "wait=30"}
    response = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert response.status_code == 200
    job = response.json()
    assert (job["status"], job["error"]["code"]) == ("REVOKED", "deadline_exceeded")
    assert job["completed_at"] >= job["deadline"]


# ---- read ----


async def test_a_running_job_shows_its_progress(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    job = await ordered(client)
    await world.started(job["job_id"])
    assert await world.registry.progress(job["job_id"], 1, STEP)
    await transport.caught_up()
    response = await client.get(job["urls"]["self"])
    assert (response.json()["status"], response.json()["progress"]) == ("STARTED", STEP)
    assert response.headers["retry-after"] == "1"


async def test_a_failed_job_says_why(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    job = await ordered(client)
    error = JobError(code="out_of_memory", title="Too big", detail="Ask for less.", retryable=True)
    await world.started(job["job_id"])
    assert await world.registry.fail(job["job_id"], 1, error)
    await transport.caught_up()
    failed = await get(client, job)
    assert (failed["status"], failed["error"]) == ("FAILURE", error)


async def test_an_unchanged_job_is_304(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """And after a change it is 200 again."""
    limit(world, max_in_flight=0)
    job = await ordered(client)
    etag = (await client.get(job["urls"]["self"])).headers["etag"]
    headers = {"If-None-Match": f'"other", {etag}'}
    same = await client.get(job["urls"]["self"], headers=headers)
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == etag == f'W/"{(await world.look(job["job_id"]))["rev"]}"'
    assert same.headers["retry-after"] == "1"
    await client.post(job["urls"]["cancel"])
    assert (await client.get(job["urls"]["self"], headers=headers)).status_code == 200


async def test_a_job_of_a_restarted_registry_goes_on(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    job = await ordered(client)
    await world.started(job["job_id"])
    await transport.caught_up()
    assert (await get(client, job))["status"] == "STARTED"
    await transport.restart()
    await world.draw(job["job_id"], fence=2)
    await transport.caught_up()
    done = await get(client, job)
    assert (done["status"], len(done["result_urls"])) == ("SUCCESS", 1)


# ---- what is not there ----


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_an_unknown_a_foreign_and_a_malformed_job_are_404(
    client: httpx.AsyncClient, world: World, method: str, path: str
) -> None:
    """Nothing tells a foreign job from an unknown one, not even once it is deleted."""
    url = f"/v1/jobs/{JOB_ID}{path}"
    unknown = assert_problem(await client.request(method, url), 404, "not_found")
    await world.submit(job_id=JOB_ID, owner="somebody")
    assert assert_problem(await client.request(method, url), 404, "not_found") == unknown
    assert await world.status(JOB_ID) == "PENDING"
    await world.registry.delete(JOB_ID, "somebody")
    assert assert_problem(await client.request(method, url), 404, "not_found") == unknown
    assert_problem(await client.request(method, f"/v1/jobs/x{path}"), 404, "not_found")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_an_expired_job_is_410(
    client: httpx.AsyncClient,
    world: World,
    transport: LocalTransport,
    method: str,
    path: str,
) -> None:
    job = await ordered(client)
    await client.post(job["urls"]["cancel"])
    limit(world, retention_s=0)
    await transport.restart()
    await world.becomes(job["job_id"], "expired")
    await transport.caught_up()
    assert_problem(await client.request(method, job["urls"]["self"] + path), 410, "expired")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_registry_no_job_is_called_missing(
    client: httpx.AsyncClient, transport: LocalTransport, method: str, path: str
) -> None:
    """ "Not found" would make a client give its job up."""
    transport.down = True
    response = await client.request(method, f"/v1/jobs/{JOB_ID}{path}")
    assert_problem(response, 503, "unavailable")


async def test_each_owner_reaches_only_its_own(transport: LocalTransport, tmp_path: Path) -> None:
    ours, theirs = keys_of(tmp_path / "keys", "ours", "theirs")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        job = (await client.post("/v1/generate", json=ORDER, headers=ours)).json()
        for method, path in ROUTES:
            url = job["urls"]["self"] + path
            assert_problem(await client.request(method, url), 401, "unauthorized")
            response = await client.request(method, url, headers=theirs)
            assert_problem(response, 404, "not_found")
        assert (await client.get(job["urls"]["self"], headers=ours)).json()["status"] == "PENDING"
        assert (await client.delete(job["urls"]["self"], headers=ours)).status_code == 204


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
    assert (await get(client, job))["status"] == "REVOKED"


async def test_a_cancelled_job_stays_cancelled(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """Whatever its attempt comes back with, and also after a restart."""
    job = await ordered(client)
    await world.started(job["job_id"])
    cancelled = (await client.post(job["urls"]["cancel"])).json()
    assert not await world.registry.finish(job["job_id"], 1, [world.files.put(job["job_id"], 1)])
    await transport.restart()
    found = await get(client, job)
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
        for method, path in ROUTES:
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
    assert (await get(client, old))["status"] == "SUCCESS"
    await client.delete(old["urls"]["self"])
    await world.draw(new["job_id"])
    await transport.caught_up()
    done = await get(client, new)
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


# ---- Prefer ----


@pytest.mark.parametrize(
    "prefer", ["wait=30", "respond-async, wait=30", 'WAIT="30"', "wait = 30; x=y", "a=b,wait=30"]
)
async def test_an_order_is_held_until_it_is_final(
    client: httpx.AsyncClient, world: World, prefer: str
) -> None:
    held = asyncio.create_task(client.post("/v1/generate", json=ORDER, headers={"Prefer": prefer}))
    await world.until(lambda: world.launcher.running)
    ((job_id, _),) = world.launcher.running
    await world.draw(job_id)
    response = await asyncio.wait_for(held, 20)
    assert (response.status_code, response.json()["status"]) == (200, "SUCCESS")
    assert response.headers["preference-applied"] == "wait=30"
    assert response.headers["location"] == response.json()["urls"]["self"]
    assert "retry-after" not in response.headers
    assert (await client.get(response.json()["result_urls"][0])).status_code == 200


async def test_a_read_is_held_until_the_job_is_final(
    client: httpx.AsyncClient, world: World
) -> None:
    job = await ordered(client)
    held = asyncio.create_task(client.get(job["urls"]["self"], headers={"Prefer": "wait=30"}))
    await world.draw(job["job_id"])
    response = await asyncio.wait_for(held, 20)
    again = await client.get(job["urls"]["self"], headers={"Prefer": "wait=30"})
    assert response.json()["status"] == again.json()["status"] == "SUCCESS"
    assert response.headers["preference-applied"] == "wait=30"


async def test_a_wait_that_was_too_short_answers_with_the_job_as_it_is(
    client: httpx.AsyncClient,
) -> None:
    headers = {"Prefer": "wait=0"}
    new = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert (new.status_code, new.json()["status"]) == (202, "PENDING")
    assert new.headers["preference-applied"] == "wait=0"
    found = await client.get(new.headers["location"], headers=headers)
    assert (found.status_code, found.json()["status"]) == (200, "PENDING")
    assert found.headers["preference-applied"] == "wait=0"


@pytest.mark.parametrize("prefer", ["respond-async", "return=minimal, handling=lenient", "", ","])
async def test_other_preferences_are_ignored(client: httpx.AsyncClient, prefer: str) -> None:
    response = await client.post("/v1/generate", json=ORDER, headers={"Prefer": prefer})
    assert response.status_code == 202
    assert "preference-applied" not in response.headers


async def test_without_a_free_seat_a_wait_is_answered_at_once(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    """It is only a preference: 202, without the header that would grant it."""
    seats = service_of(app).watching._seats
    seats.limit = 0
    waits = client.post("/v1/generate", json=ORDER, headers={"Prefer": "wait=60"})
    response = await asyncio.wait_for(waits, 30)
    assert response.status_code == 202
    assert "preference-applied" not in response.headers
    assert seats.taken == 0


async def test_a_held_order_outlives_a_restart_of_the_registry(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """It was accepted: the answer is no 503, and it comes although the end was never watched."""
    held = asyncio.create_task(
        client.post("/v1/generate", json=ORDER, headers={"Prefer": "wait=60"})
    )
    await world.until(lambda: world.launcher.running)
    ((job_id, _),) = world.launcher.running
    await transport.caught_up()
    transport.down = True
    await world.die_and_rise()
    await world.registry.cancel(job_id, "local")
    transport.down = False
    response = await asyncio.wait_for(held, 30)
    assert response.status_code == 200
    assert response.json()["status"] in TERMINAL
