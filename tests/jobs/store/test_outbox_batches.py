"""The event of a batch: written by whatever ends its last job, once for each time that this comes about."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs.job import Job, Status
from serve_app.jobs.store.batches import InsertedBatch, NewRow
from serve_app.jobs.store.outbox import Ruling
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import CallMade, Webhook
from tests.jobs.harness import ERROR
from tests.jobs.store.test_batches import insert, new_rows

HOOK = Webhook(url="https://build.example/batch", events=["completed"], root="https://art.example")
CALL = CallMade(at=5.0, status=410, error=None, ms=7)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[SqliteStore]:
    store = SqliteStore(tmp_path)
    yield store
    await store.close()


async def end(store: SqliteStore, one: Job, status: Status = Status.SUCCESS) -> None:
    error = None if status is Status.SUCCESS else ERROR
    ended = one.evolve(status=status, completed_at=9.5, error=error)
    assert await store.update(ended, expected_fence=0)


async def told(store: SqliteStore) -> list[dict[str, Any]]:
    """Bodies of what waits, oldest first."""
    return [json.loads(due.parcel["body"]) for due in await store.outbox.due(1e12)]


async def hooked(store: SqliteStore, *keys: str) -> InsertedBatch:
    return await insert(store, new_rows(*keys), hook=HOOK)


async def test_the_last_end_tells_of_the_whole_batch(store: SqliteStore) -> None:
    batch = await hooked(store, "a", "b", "c")
    for one, status in zip(batch.fresh, ("SUCCESS", "REVOKED", "SUCCESS"), strict=True):
        assert await told(store) == []
        assert await store.outbox.expects_batches()
        await end(store, one, Status(status))
    assert not await store.outbox.expects_batches()
    (body,) = await told(store)
    assert (body["type"], body["timestamp"]) == ("batch.completed", "1970-01-01T00:00:09.500Z")
    said = body["data"]
    assert (said["batch_id"], said["name"], said["size"]) == (batch.batch_id, "potions", 3)
    assert said["status"] == "REVOKED"
    assert (said["counts"]["SUCCESS"], said["counts"]["REVOKED"]) == (2, 1)
    own = f"https://art.example/v1/batches/{batch.batch_id}"
    assert said["urls"] == {"self": own, "archive": f"{own}/archive"}
    page = await store.outbox.page("ann", {}, 10, None)
    (found,) = page["deliveries"]
    assert (found["batch_id"], found["job_id"]) == (batch.batch_id, None)
    assert found["event"] == "completed"


async def test_a_batch_that_reuses_everything_has_ended_at_once(store: SqliteStore) -> None:
    first = await hooked(store, "a")
    await end(store, first.fresh[0])
    again = await hooked(store, "a")
    assert again.fresh == []
    assert [body["data"]["batch_id"] for body in await told(store)] == [
        first.batch_id,
        again.batch_id,
    ]


async def test_a_job_of_another_batch_may_be_the_last(store: SqliteStore) -> None:
    """The later batch waits for a job that the earlier one makes. Only one of them calls somebody."""
    first = await insert(store, new_rows("a"))
    second = await hooked(store, "a")
    assert second.fresh == []
    await end(store, first.fresh[0])
    assert [body["data"]["batch_id"] for body in await told(store)] == [second.batch_id]


async def test_after_a_retry_it_is_told_again(store: SqliteStore) -> None:
    batch = await hooked(store, "a")
    await end(store, batch.fresh[0], Status.FAILURE)
    stored = await store.batches.get(batch.batch_id)
    assert stored is not None
    (new,) = new_rows("a")
    again: list[tuple[int, str, NewRow]] = [(1, batch.fresh[0].job_id, new)]
    assert await store.batches.order_again(stored.number, again) == [new.job]
    assert await store.outbox.expects_batches()
    await end(store, new.job)
    assert [body["data"]["status"] for body in await told(store)] == ["FAILURE", "SUCCESS"]


async def test_a_url_that_is_off_is_not_called_for_batches_either(store: SqliteStore) -> None:
    first = await hooked(store, "a")
    await end(store, first.fresh[0])
    (due,) = await store.outbox.due(1e12)
    gone = Ruling(CALL, "failed", reason="gone", disabled="gone")
    await store.outbox.settle({due.parcel["number"]: gone})
    second = await hooked(store, "b")
    await end(store, second.fresh[0])
    assert await told(store) == []
    page = await store.outbox.page("ann", {"state": "dropped"}, 10, None)
    assert [found["batch_id"] for found in page["deliveries"]] == [second.batch_id]


async def test_a_batch_that_is_deleted_is_not_waited_for(store: SqliteStore) -> None:
    batch = await hooked(store, "a")
    await store.batches.take_back(batch.batch_id, batch.fresh, 1.0)
    assert not await store.outbox.expects_batches()
    assert await told(store) == []
