"""JobService: when the registry is asked, when the view is enough, and what a retry takes over."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from serve_app.errors import Gone, InvalidParameter, NotFound
from serve_app.messages import JobFilter
from tests.api.harness import LocalTransport, limit, ordered, service_of
from tests.factories import JOB_ID, labels, params
from tests.jobs.harness import World


async def test_a_fresh_view_answers_without_the_registry(
    client: httpx.AsyncClient, transport: LocalTransport, app: FastAPI
) -> None:
    """Polls of a live job cost the registry nothing."""
    job = await ordered(client)
    await transport.caught_up()
    view = service_of(app).view
    view._clock = lambda: view._fed_at  # however slow this machine is, no second has passed
    polls = [await client.get(job["urls"]["self"]) for _ in range(100)]
    assert {poll.status_code for poll in polls} == {200}
    assert transport.calls["get"] == 0


async def test_a_finished_job_is_shown_without_a_registry(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """What is final cannot be out of date."""
    job = await ordered(client)
    await world.draw(job["job_id"])
    await transport.caught_up()
    transport.down = True
    assert (await client.get(job["urls"]["self"])).json()["status"] == "SUCCESS"


async def test_a_malformed_id_costs_no_call(
    client: httpx.AsyncClient, transport: LocalTransport, app: FastAPI
) -> None:
    service = service_of(app)
    for act in (service.job, service.cancel, service.delete):
        with pytest.raises(NotFound):
            await act(JOB_ID.upper(), "local")
    assert not {"get", "cancel", "delete"} & set(transport.calls)


async def test_a_deleted_job_is_gone_for_its_owner_and_unknown_to_others(
    client: httpx.AsyncClient, world: World, app: FastAPI
) -> None:
    await world.submit(job_id=JOB_ID, owner="ann")
    service = service_of(app)
    await service.delete(JOB_ID, "ann")
    with pytest.raises(Gone):
        await service.job(JOB_ID, "ann")
    with pytest.raises(NotFound):
        await service.job(JOB_ID, "bob")


async def test_a_retry_asks_the_registry_before_it_says_that_a_job_lives(
    client: httpx.AsyncClient, world: World, transport: LocalTransport, app: FastAPI
) -> None:
    """The client may have heard of the end from another ingress. Afterwards this one knows it too."""
    job = await ordered(client)
    transport.failures["watch"] = ConnectionError()
    await world.draw(job["job_id"])
    service = service_of(app)
    held = service.view.get(job["job_id"])
    assert held is not None
    assert held["status"] == "PENDING"
    await service.again(job["job_id"], owner="local", life_s=None, key=None)
    assert (await service.job(job["job_id"], "local"))["status"] == "SUCCESS"


async def test_a_retry_is_drawn_with_the_weights_of_now(
    client: httpx.AsyncClient, world: World, app: FastAPI
) -> None:
    old = params(model_revision="older weights")
    await world.submit(old, labels(client="editor"), job_id=JOB_ID)
    await world.draw(JOB_ID)
    job, replayed = await service_of(app).again(JOB_ID, owner="ann", life_s=None, key=None)
    assert job["params"] == old.model_dump() | {"model_revision": "tiny-weights"}
    assert job["labels"] == labels(client="editor", retry_of=JOB_ID, batch_id=None)
    assert not replayed


async def test_a_retry_takes_over_what_only_newer_code_understands(
    client: httpx.AsyncClient, world: World, app: FastAPI
) -> None:
    newer = params().model_dump() | {"not_known_yet": [1]}
    await world.submit(params=newer, job_id=JOB_ID)
    await world.draw(JOB_ID)
    job, _ = await service_of(app).again(JOB_ID, owner="ann", life_s=None, key=None)
    assert job["params"]["not_known_yet"] == [1]


async def test_a_retry_of_another_model_is_refused(
    client: httpx.AsyncClient, world: World, app: FastAPI
) -> None:
    """It would draw something else. Which model is served is told."""
    await world.submit(params(model="other"), job_id=JOB_ID)
    await world.draw(JOB_ID)
    with pytest.raises(InvalidParameter) as raised:
        await service_of(app).again(JOB_ID, owner="ann", life_s=None, key=None)
    assert (raised.value.field, raised.value.allowed) == ("model", ["tiny"])
    page = await world.registry.page("ann", JobFilter(), 10, None, None)
    assert len(page["jobs"]) == 1


async def test_a_stream_that_is_taken_up_again_asks_for_its_owners_changes_only(
    world: World, transport: LocalTransport, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much has changed of others' jobs, and in as many pages as it takes."""
    monkeypatch.setattr("serve_app.jobs.cache.CHANGES_PER_REPLY", 2)
    limit(world, max_in_flight=0)
    since = (world.registry.epoch, (await world.look(await world.submit()))["rev"])
    seq = int(since[1].partition(".")[2])
    own = [await world.submit() for _ in range(5)]
    for _ in range(20):
        await world.submit(owner="bob")
    found = await service_of(app)._changed("ann", (since[0], seq + 1))
    assert [job["job_id"] for job in found] == own
    assert (transport.calls["changes"], transport.calls["watch"]) == (3, 0)
    assert await service_of(app)._changed("cid", (since[0], seq)) == []
    resync = await service_of(app)._changed("bob", (since[0] - 1, 1))
    assert len(resync) == 20
