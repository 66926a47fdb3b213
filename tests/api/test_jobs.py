"""GET /v1/jobs/{id}: what is shown to whom, and what polling costs."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from serve_app.api.view import LocalView
from serve_app.messages import JobError
from tests.api.harness import (
    ORDER,
    UNKNOWN_ID,
    MemoryRegistry,
    assert_problem,
    job_view,
    make_app,
    serving,
)


async def ordered(client: httpx.AsyncClient) -> str:
    return (await client.post("/v1/generate", json=ORDER)).json()["job_id"]


async def test_a_finished_job_lists_its_files(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    job_id = await ordered(client)
    registry.finish(job_id)
    await registry.watched()
    response = await client.get(f"/v1/jobs/{job_id}")
    job = response.json()
    assert response.status_code == 200
    assert job["status"] == "SUCCESS"
    assert job["result_urls"] == [f"/output/2026-11-22/icon_7_{job_id}_0_1.png"]
    assert job["images"][0]["url"] == job["result_urls"][0]
    assert job["images"][0]["seed"] == 7
    assert "retry-after" not in response.headers
    assert (job["queue_position"], job["eta_seconds"]) == (None, None)


async def test_a_running_job_shows_its_progress(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    job_id = await ordered(client)
    progress = {"value": 0.5, "step": 3, "steps": 6, "image": 0, "images": 1, "stage": "denoising"}
    registry.change(job_id, status="STARTED", started_at=time.time(), progress=progress)
    await registry.watched()
    response = await client.get(f"/v1/jobs/{job_id}")
    assert response.json()["progress"] == progress
    assert response.headers["retry-after"] == "1"


async def test_a_failed_job_says_why(client: httpx.AsyncClient, registry: MemoryRegistry) -> None:
    job_id = await ordered(client)
    error = JobError(code="out_of_memory", title="Too big", detail="Ask for less.", retryable=True)
    registry.change(job_id, status="FAILURE", error=error)
    await registry.watched()
    job = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert (job["status"], job["error"]) == ("FAILURE", error)


async def test_an_unchanged_job_is_304(client: httpx.AsyncClient, registry: MemoryRegistry) -> None:
    """And after a change it is 200 again."""
    job_id = await ordered(client)
    etag = (await client.get(f"/v1/jobs/{job_id}")).headers["etag"]
    headers = {"If-None-Match": f'"other", {etag}'}
    same = await client.get(f"/v1/jobs/{job_id}", headers=headers)
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == etag == f'W/"{registry.jobs[job_id]["rev"]}"'
    assert same.headers["retry-after"] == "1"
    registry.finish(job_id)
    await registry.watched()
    assert (await client.get(f"/v1/jobs/{job_id}", headers=headers)).status_code == 200


async def test_an_unknown_job_is_404(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get(f"/v1/jobs/{UNKNOWN_ID}"), 404, "not_found")


@pytest.mark.parametrize("job_id", ["x", "1", UNKNOWN_ID.upper(), UNKNOWN_ID[:-1], "%00", "é"])
async def test_a_malformed_id_is_404_and_says_so(
    client: httpx.AsyncClient, registry: MemoryRegistry, job_id: str
) -> None:
    body = assert_problem(await client.get(f"/v1/jobs/{job_id}"), 404, "not_found")
    assert "UUID" in body["detail"]
    assert registry.gets == 0


async def test_anothers_job_is_as_unknown_as_none(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    registry.jobs[UNKNOWN_ID] = job_view(owner="somebody")
    theirs = await client.get(f"/v1/jobs/{UNKNOWN_ID}")
    registry.jobs.clear()
    nobodys = await client.get(f"/v1/jobs/{UNKNOWN_ID}")
    assert theirs.status_code == 404
    assert theirs.json() == nobodys.json()


async def test_without_a_registry_an_unknown_job_is_503_not_404(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """ "Not found" would make a client give its job up."""
    registry.down = True
    assert_problem(await client.get(f"/v1/jobs/{UNKNOWN_ID}"), 503, "unavailable")


async def test_a_finished_job_is_shown_without_a_registry(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    """What is final cannot be out of date."""
    job_id = await ordered(client)
    registry.finish(job_id)
    await registry.watched()
    registry.down = True
    assert (await client.get(f"/v1/jobs/{job_id}")).json()["status"] == "SUCCESS"


async def test_a_fresh_view_answers_without_the_registry(
    registry: MemoryRegistry, tmp_path: Path
) -> None:
    """Polls of a live job cost the registry nothing."""
    app = make_app(registry, tmp_path)
    async with serving(app) as client:
        job_id = await ordered(client)
        await registry.watched()
        view: LocalView = app.state.board.view
        view._clock = lambda: view._fed_at  # however slow this machine is, no second has passed
        polls = [await client.get(f"/v1/jobs/{job_id}") for _ in range(100)]
    assert {poll.status_code for poll in polls} == {200}
    assert registry.gets == 0
