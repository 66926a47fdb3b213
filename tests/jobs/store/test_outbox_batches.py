"""Events of a batch: written by whatever begins its first job and ends its last, once for each time."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import pytest

from serve_app.jobs.job import Job, Status
from serve_app.jobs.store.batch_tables import STATUSES
from serve_app.jobs.store.outbox import Ruling
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.jobs.store.stored_batch import InsertedBatch, NewRow
from serve_app.messages import CallMade, Webhook
from tests.jobs.harness import ERROR
from tests.jobs.store.test_batches import insert, new_rows

HOOK = Webhook(url="https://build.example/batch", events=["completed"], root="https://art.example")
ALL = Webhook(url=HOOK["url"], events=["queued", "started", "completed"], root="")
CALL = CallMade(at=5.0, status=410, error=None, ms=7)
TAKEN = CallMade(at=5.0, status=200, error=None, ms=7)


async def end(store: SqliteStore, one: Job, status: Status = Status.SUCCESS) -> None:
    error = None if status is Status.SUCCESS else ERROR
    ended = one.evolve(status=status, completed_at=9.5, error=error)
    assert await store.update(ended, expected_fence=0)


async def told(store: SqliteStore) -> list[dict[str, Any]]:
    """Bodies of what waits, in the order in which it goes out; a receiver takes everything."""
    bodies: list[dict[str, Any]] = []
    while found := await store.outbox.due(1e12):
        bodies += [json.loads(due.parcel["body"]) for due in found]
        await store.outbox.settle({d.parcel["number"]: Ruling(TAKEN, "delivered") for d in found})
    return bodies


async def names(store: SqliteStore) -> list[str]:
    return [body["type"].removeprefix("batch.") for body in await told(store)]


async def hooked(store: SqliteStore, *keys: str, hook: Webhook = HOOK) -> InsertedBatch:
    return await insert(store, new_rows(*keys), hook=hook)


async def test_whoever_wants_more_is_told_when_it_waits_begins_and_ends(store: SqliteStore) -> None:
    batch = await hooked(store, "a", "b", hook=ALL)
    assert await names(store) == ["queued"]
    first, second = batch.fresh
    begun = first.evolve(status=Status.STARTED, started_at=time.time())
    assert await store.update(begun, expected_fence=0)
    (body,) = await told(store)
    assert (body["type"], body["data"]["status"]) == ("batch.started", "STARTED")
    assert body["data"]["counts"] == {**dict.fromkeys(STATUSES, 0), "PENDING": 1, "STARTED": 1}
    assert abs(datetime.fromisoformat(body["timestamp"]).timestamp() - time.time()) < 60
    again = begun.evolve(status=Status.RETRY)
    assert await store.update(again, expected_fence=0)
    assert await store.update(again.evolve(status=Status.STARTED), expected_fence=0)
    await end(store, second)
    assert await names(store) == [], "it begins once"
    await end(store, begun)
    assert await names(store) == ["completed"]


async def test_a_batch_that_was_over_at_once_is_told_in_order(store: SqliteStore) -> None:
    """The report of a beginning may come after the end, or never; and what is reused has begun before."""
    batch = await hooked(store, "a", hook=ALL)
    await end(store, batch.fresh[0])
    assert await names(store) == ["queued", "started", "completed"]
    await hooked(store, "a", hook=ALL)
    assert await names(store) == ["queued", "started", "completed"]
    revoked = await hooked(store, "b", hook=ALL)
    await end(store, revoked.fresh[0], Status.REVOKED)
    assert await names(store) == ["queued", "completed"]


@pytest.mark.parametrize("wanted", [["queued"], ["started"], ["completed"]])
async def test_nobody_is_told_what_he_did_not_ask_for(
    store: SqliteStore, wanted: list[str]
) -> None:
    batch = await hooked(store, "a", hook={**ALL, "events": wanted})
    await end(store, batch.fresh[0])
    assert await names(store) == wanted


async def test_a_batch_that_leaves_its_jobs_to_another_has_ended(store: SqliteStore) -> None:
    first = await hooked(store, "a", hook=ALL)
    await insert(store, new_rows("a"))
    stored = await store.batches.get(first.batch_id)
    assert stored is not None
    assert await store.batches.revoke(stored.number, 9.0, ERROR) == {}
    bodies = await told(store)
    assert [body["type"] for body in bodies] == ["batch.queued", "batch.completed"]
    assert bodies[1]["data"]["status"] == "REVOKED"
    await end(store, first.fresh[0])
    assert await names(store) == [], "what becomes of the job does not concern it any more"


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
