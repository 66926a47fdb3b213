"""Routes of jobs: what is shown to whom, and what is not there."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from serve_app.messages import JobError
from tests.api.harness import (
    JOB_ROUTES,
    ORDER,
    STEP,
    LocalTransport,
    assert_problem,
    get,
    keys_of,
    limit,
    make_app,
    ordered,
    serving,
)
from tests.factories import JOB_ID
from tests.jobs.harness import World

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
    failed = await get(client, job["urls"]["self"])
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
    assert (await get(client, job["urls"]["self"]))["status"] == "STARTED"
    await transport.restart()
    await world.draw(job["job_id"], fence=2)
    await transport.caught_up()
    done = await get(client, job["urls"]["self"])
    assert (done["status"], len(done["result_urls"])) == ("SUCCESS", 1)


# ---- what is not there ----


@pytest.mark.parametrize(("method", "path"), JOB_ROUTES)
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


@pytest.mark.parametrize(("method", "path"), JOB_ROUTES)
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


@pytest.mark.parametrize(("method", "path"), JOB_ROUTES)
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
        for method, path in JOB_ROUTES:
            url = job["urls"]["self"] + path
            assert_problem(await client.request(method, url), 401, "unauthorized")
            response = await client.request(method, url, headers=theirs)
            assert_problem(response, 404, "not_found")
        assert (await client.get(job["urls"]["self"], headers=ours)).json()["status"] == "PENDING"
        assert (await client.delete(job["urls"]["self"], headers=ours)).status_code == 204
