"""POST /v1/generate: the answer, Idempotency-Key, Cancel-After, and dry runs."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from tests.api.harness import (
    ORDER,
    LocalTransport,
    assert_problem,
    get,
    limit,
    ordered,
)
from tests.jobs.harness import World

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
    done = await get(client, job["urls"]["self"])
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
