"""Cancel, retry, delete: codes, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api.keys import add_key
from serve_app.messages import Tombstone
from tests.api.harness import (
    ORDER,
    UNKNOWN_ID,
    MemoryRegistry,
    assert_problem,
    job_view,
    make_app,
    serving,
)

ROUTES = [("POST", "/cancel"), ("POST", "/retry"), ("DELETE", ""), ("GET", ""), ("GET", "/events")]


async def ordered(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/v1/generate", json=ORDER | body)
    assert response.status_code == 202, response.text
    return response.json()


async def test_a_job_is_cancelled_once(client: httpx.AsyncClient, registry: MemoryRegistry) -> None:
    job = await ordered(client)
    first = await client.post(job["urls"]["cancel"])
    again = await client.post(job["urls"]["cancel"])
    assert first.status_code == again.status_code == 200
    assert first.json()["status"] == "REVOKED"
    assert first.json()["error"]["code"] == "cancelled"
    assert first.json() == again.json()
    assert first.headers["etag"] == again.headers["etag"]
    assert "retry-after" not in first.headers
    shown = await client.get(job["urls"]["self"])
    assert shown.json()["status"] == "REVOKED"


async def test_a_finished_job_stays_as_it_is(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    job = await ordered(client)
    registry.finish(job["job_id"])
    response = await client.post(job["urls"]["cancel"])
    assert (response.status_code, response.json()["status"]) == (200, "SUCCESS")
    assert response.json()["result_urls"]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_an_unknown_a_foreign_and_a_malformed_job_are_404(
    client: httpx.AsyncClient, registry: MemoryRegistry, method: str, path: str
) -> None:
    """And the foreign one is told from the unknown by nothing, not even once it is deleted."""
    url = f"/v1/jobs/{UNKNOWN_ID}{path}"
    unknown = assert_problem(await client.request(method, url), 404, "not_found")
    registry.jobs[UNKNOWN_ID] = job_view(owner="somebody")
    assert assert_problem(await client.request(method, url), 404, "not_found") == unknown
    assert registry.jobs[UNKNOWN_ID]["status"] == "PENDING"
    await registry.delete(UNKNOWN_ID, "somebody")
    assert assert_problem(await client.request(method, url), 404, "not_found") == unknown
    assert_problem(await client.request(method, f"/v1/jobs/x{path}"), 404, "not_found")


@pytest.mark.parametrize("why", ["deleted", "expired"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_what_is_gone_is_410(
    client: httpx.AsyncClient, registry: MemoryRegistry, method: str, path: str, why: Any
) -> None:
    registry.gone[UNKNOWN_ID] = Tombstone(job_id=UNKNOWN_ID, owner="local", gone=why)
    assert_problem(await client.request(method, f"/v1/jobs/{UNKNOWN_ID}{path}"), 410, why)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_registry_nothing_is_said_to_be_missing(
    client: httpx.AsyncClient, registry: MemoryRegistry, method: str, path: str
) -> None:
    registry.down = True
    response = await client.request(method, f"/v1/jobs/{UNKNOWN_ID}{path}")
    assert_problem(response, 503, "unavailable")


@pytest.mark.parametrize("finished", [True, False])
async def test_a_deleted_job_is_gone(
    client: httpx.AsyncClient, registry: MemoryRegistry, finished: bool
) -> None:
    """204 and nothing in it; also of a job that lived."""
    job = await ordered(client)
    if finished:
        registry.finish(job["job_id"])
        await registry.watched()
    response = await client.delete(job["urls"]["self"])
    assert (response.status_code, response.content) == (204, b"")
    for method, path in ROUTES:
        url = job["urls"]["self"] + path
        assert_problem(await client.request(method, url), 410, "deleted")


# ---- retry ----


async def test_a_retry_is_the_same_order_as_a_new_job(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    said: dict[str, Any] = {
        "seed": 7,
        "n": 2,
        "priority": "high",
        "tags": ["a", "b"],
        "metadata": {"slot": [1, None, "é"]},
    }
    old = await ordered(client, **said)
    registry.finish(old["job_id"])
    registry.jobs[old["job_id"]]["params"]["model_revision"] = "older weights"
    response = await client.post(old["urls"]["retry"])
    assert response.status_code == 202
    new = response.json()
    assert response.headers["location"] == new["urls"]["self"] != old["urls"]["self"]
    assert (new["retry_of"], old["retry_of"]) == (old["job_id"], None)
    assert new["status"] == "PENDING"
    for field in ("request", "resolved", "priority", "tags", "metadata"):
        assert new[field] == old[field], field
    assert registry.jobs[old["job_id"]]["status"] == "SUCCESS"
    assert new["deadline"] is None


async def test_a_retry_counts_for_the_same_client(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    headers = {"X-Client-Id": "editor"}
    old = (await client.post("/v1/generate", json=ORDER, headers=headers)).json()
    await client.post(old["urls"]["cancel"])
    new = (await client.post(old["urls"]["retry"])).json()
    assert registry.jobs[new["job_id"]]["client"] == "editor"


@pytest.mark.parametrize("status", ["PENDING", "STARTED", "RETRY"])
async def test_a_job_that_lives_is_not_retried(
    client: httpx.AsyncClient, registry: MemoryRegistry, status: str
) -> None:
    job = await ordered(client)
    registry.change(job["job_id"], status=status)
    await registry.watched()
    body = assert_problem(await client.post(job["urls"]["retry"]), 409, "not_final")
    assert status in body["detail"]
    assert len(registry.jobs) == 1


async def test_a_retry_asks_the_registry_before_it_says_that_a_job_lives(
    registry: MemoryRegistry, tmp_path: Path
) -> None:
    """The client may have heard of the end from another ingress, before the view of this one."""
    app = make_app(registry, tmp_path)
    async with serving(app) as client:
        job = await ordered(client)
        view = app.state.board.view
        stale = registry.jobs[job["job_id"]]
        registry.finish(job["job_id"])
        view._others[job["job_id"]] = stale
        assert (await client.post(job["urls"]["retry"])).status_code == 202


async def test_a_retry_with_a_key_happens_once(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    old = await ordered(client)
    registry.finish(old["job_id"])
    headers = {"Idempotency-Key": "again"}
    first = await client.post(old["urls"]["retry"], headers=headers)
    second = await client.post(old["urls"]["retry"], headers=headers)
    assert first.json()["job_id"] == second.json()["job_id"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert len(registry.jobs) == 2
    order = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert_problem(order, 422, "idempotency_key_reuse")


async def test_a_retry_of_another_model_is_refused(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """It would draw something else; what is served now is told. There is no body to point into."""
    old = await ordered(client)
    registry.finish(old["job_id"])
    registry.jobs[old["job_id"]]["params"]["model"] = "other"
    body = assert_problem(await client.post(old["urls"]["retry"]), 422, "invalid_field")
    error = body["errors"][0]
    assert (error["field"], error["allowed"]) == ("model", ["tiny"])
    assert "pointer" not in error
    assert len(registry.jobs) == 1


# ---- bodies ----


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
    client: httpx.AsyncClient, registry: MemoryRegistry, path: str, sent: dict[str, Any]
) -> None:
    job = await ordered(client)
    registry.finish(job["job_id"])
    response = await client.post(job["urls"][path], **sent)
    assert response.status_code == {"cancel": 200, "retry": 202}[path], response.text


async def test_another_body_is_415(client: httpx.AsyncClient) -> None:
    """A form is what a page of another site can send."""
    job = await ordered(client)
    response = await client.post(job["urls"]["cancel"], data={"a": "b"})
    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}])
async def test_an_order_needs_a_body(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.post("/v1/generate", headers=headers)
    body = assert_problem(response, 422, "invalid_field")
    assert body["errors"][0]["field"] == "body"
    assert body["errors"][0]["pointer"] == "#"


async def test_each_owner_ends_only_its_own(registry: MemoryRegistry, tmp_path: Path) -> None:
    ours, theirs = (
        {"X-API-Key": add_key(tmp_path / "keys", owner)} for owner in ("ours", "theirs")
    )
    async with serving(make_app(registry, tmp_path, api_keys_file=tmp_path / "keys")) as client:
        job = (await client.post("/v1/generate", json=ORDER, headers=ours)).json()
        for method, path in ROUTES:
            url = job["urls"]["self"] + path
            assert_problem(await client.request(method, url), 401, "unauthorized")
            response = await client.request(method, url, headers=theirs)
            assert_problem(response, 404, "not_found")
        assert registry.jobs[job["job_id"]]["status"] == "PENDING"
        assert (await client.delete(job["urls"]["self"], headers=ours)).status_code == 204
