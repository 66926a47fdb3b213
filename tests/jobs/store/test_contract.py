"""What a registry promises of its jobs, over every store: lives end in between, and what was said holds."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from serve_app.messages import JobChanges
from tests.factories import labels, submission
from tests.jobs.harness import World
from tests.jobs.store.opens import Opens


@pytest.fixture
async def world(tmp_path: Path, open_store: Opens) -> AsyncGenerator[World]:
    (tmp_path / "world").mkdir()
    limits = {"max_in_flight": 2, "idempotency_s": 3600.0}
    async with World(tmp_path / "world", limits, opens=open_store) as world:
        yield world


async def test_an_order_under_a_key_is_one_job_in_every_life(world: World) -> None:
    order = submission(idempotency_key="k", body_hash="h")
    first = await world.registry.submit(order)
    await world.die_and_rise()
    again = await world.registry.submit(submission(idempotency_key="k", body_hash="h"))
    other = await world.registry.submit(submission(idempotency_key="k", body_hash="x"))
    assert again["job"]["job_id"] == first["job"]["job_id"]
    assert again["replayed"]
    assert other["error"]["code"] == "idempotency_key_reuse"
    known = await world.registry.known("ann", "k", "h")
    assert known is not None
    assert known["job"]["job_id"] == order["job_id"]


async def test_a_job_that_was_drawn_when_the_registry_died_is_drawn_under_a_higher_fence(
    world: World,
) -> None:
    job_id = await world.submit()
    await world.started(job_id)
    lost = world.files.put(job_id, 1)
    epoch = world.registry.epoch
    await world.die_and_rise()
    assert world.registry.epoch == epoch + 1
    await world.launched(job_id, 2)
    assert not await world.finish(job_id, 1, [lost])
    assert await world.draw(job_id, 2)
    await world.die_and_rise()
    view = await world.look(job_id)
    assert (view["status"], view["fence"]) == ("SUCCESS", 2)
    assert [image["path"] for image in view["images"]] != [lost["path"]]


async def test_an_end_is_final_in_every_life(world: World) -> None:
    done, failed, revoked = [await world.submit() for _ in range(3)]
    await world.draw(done)
    await world.started(failed)
    await world.fail(failed, 1)
    await world.registry.cancel(revoked, "ann")
    expected = ["SUCCESS", "FAILURE", "REVOKED"]
    for _ in range(2):
        assert [await world.status(job_id) for job_id in (done, failed, revoked)] == expected
        await world.registry.cancel(done, "ann")
        await world.die_and_rise()


async def test_a_deleted_job_is_known_as_deleted_and_its_words_find_nothing(world: World) -> None:
    kept, gone = [await world.submit(labelled=labels(tags=["level"])) for _ in range(2)]
    for job_id in (kept, gone):
        await world.draw(job_id)
    await world.registry.change(kept, "ann", JobChanges(tags=["level", "best"]))
    await world.registry.delete(gone, "ann")
    await world.die_and_rise()
    assert await world.status(gone) == "deleted"
    page = await world.registry.page("ann", {"tag": "level"}, 10, None, None)
    assert [job["job_id"] for job in page["jobs"]] == [kept]
    page = await world.registry.page("ann", {"tag": "best"}, 10, None, None)
    assert [job["job_id"] for job in page["jobs"]] == [kept]


async def test_what_is_past_its_retention_goes_and_is_known_as_expired(world: World) -> None:
    job_id = await world.submit()
    await world.draw(job_id)
    world.limits["retention_s"] = 1e-6
    await world.die_and_rise()
    await world.becomes(job_id, "expired")
    assert (await world.registry.page("ann", {}, 10, None, None))["jobs"] == []
