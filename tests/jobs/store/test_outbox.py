"""The outbox: what a webhook is to be told is written with the change itself, or not at all."""

from __future__ import annotations

import functools
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs.job import Job, Status
from serve_app.jobs.store import outbox as module
from serve_app.jobs.store import sqlite as store_module
from serve_app.jobs.store.outbox import EACH, Ruling
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import CallMade, Webhook
from tests.factories import image_file, job, labels, new_id
from tests.jobs.harness import ERROR, insert
from tests.jobs.store.test_schema import Explained, is_slow

URL = "https://build.example/hook"
ALL = ["queued", "started", "output", "completed"]
CALL = CallMade(at=5.0, status=500, error=None, ms=7)


def hooked(*events: str, url: str = URL, **changes: Any) -> Job:
    hook = Webhook(url=url, events=[*(events or ALL)], root="https://art.example")
    made = labels(webhook=hook, tags=["level-3"], metadata={"slot": 7})
    return job(labelled=made, job_id=new_id(), number=_number(), **changes)


_numbers = iter(range(1, 10_000))


def _number() -> int:
    return next(_numbers)


async def ended(store: SqliteStore, one: Job, status: Status = Status.SUCCESS, **more: Any) -> Job:
    one = one.evolve(status=status, completed_at=9.5, **more)
    assert await store.update(one, expected_fence=one.fence)
    return one


async def events(store: SqliteStore, owner: str = "ann") -> list[str]:
    """Of all deliveries, oldest first."""
    page = await store.outbox.page(owner, {}, 1000, None)
    return [found["event"] for found in page["deliveries"]][::-1]


async def test_a_life_is_told_in_its_order(store: SqliteStore) -> None:
    one = hooked()
    await insert(store, one)
    one = one.evolve(fence=1)
    await store.update(one, expected_fence=0)
    await store.update(one.evolve(status=Status.STARTED, started_at=9.0), expected_fence=1)
    await ended(store, one, images=(image_file(),))
    assert await events(store) == ALL
    assert [due.event for due in await store.outbox.due(1e12)] == ["queued"]


async def test_the_body_is_thin_and_links_to_the_rest(store: SqliteStore) -> None:
    one = hooked("completed")
    await insert(store, one)
    await ended(store, one, images=(image_file(),))
    (due,) = await store.outbox.due(1e12)
    assert due.parcel["id"] == f"msg_{one.job_id}_completed"
    body = json.loads(due.parcel["body"])
    assert body["type"] == "job.completed"
    assert body["timestamp"] == "1970-01-01T00:00:09.500000Z"
    said = body["data"]
    assert said["urls"]["self"] == f"https://art.example/v1/jobs/{one.job_id}"
    assert said["result_urls"] == [f"https://art.example/output/{image_file()['path']}"]
    assert (said["status"], said["tags"], said["metadata"]) == ("SUCCESS", ["level-3"], {"slot": 7})
    assert one.params["prompt"] not in due.parcel["body"]
    assert len(due.parcel["body"]) < 1500


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (Status.SUCCESS, ["output", "completed"]),
        (Status.FAILURE, ["completed"]),
        (Status.REVOKED, ["completed"]),
    ],
)
async def test_every_end_is_told(store: SqliteStore, status: Status, told: list[str]) -> None:
    one = hooked("output", "completed")
    await insert(store, one)
    error = None if status is Status.SUCCESS else ERROR
    await ended(store, one, status, error=error)
    assert await events(store) == told
    (due,) = await store.outbox.due(1e12)
    assert json.loads(due.parcel["body"])["data"]["error"] == error


async def test_a_job_whose_beginning_was_not_reported_has_begun_all_the_same(
    store: SqliteStore,
) -> None:
    one = hooked()
    await insert(store, one)
    await ended(store, one, images=(image_file(),))
    assert await events(store) == ALL


async def test_an_event_is_there_once_however_often_its_change_is_written(
    store: SqliteStore,
) -> None:
    one = hooked()
    await insert(store, one)
    await insert(store, one)  # the transport repeats a call
    started = one.evolve(status=Status.STARTED, started_at=9.0)
    await store.update(started, expected_fence=0)
    await store.update(one.evolve(status=Status.RETRY), expected_fence=0)
    await store.update(started, expected_fence=0)
    await ended(store, one)
    assert not await store.update(one.evolve(status=Status.REVOKED), expected_fence=0)
    assert await events(store) == ALL


async def test_neither_the_change_nor_the_event_is_there_without_the_other(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = hooked()
    await insert(store, one)

    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(store_module, "post", fails)
    with pytest.raises(sqlite3.OperationalError):
        await ended(store, one)
    found = await store.get(one.job_id)
    assert found is not None
    assert found.status is Status.PENDING
    another = hooked()
    with pytest.raises(sqlite3.OperationalError):
        await insert(store, another)
    assert await store.get(another.job_id) is None
    assert await events(store) == ["queued"]


async def test_a_job_without_webhook_and_events_nobody_wants_cost_nothing(
    store: SqliteStore,
) -> None:
    told: list[int] = []
    store.outbox.posted = lambda: told.append(1)
    plain = job(job_id=new_id(), number=_number())
    await insert(store, plain)
    await ended(store, plain)
    assert told == []
    one = hooked("output")
    await insert(store, one)
    await ended(store, one, Status.FAILURE, error=ERROR)
    assert await events(store) == []


async def test_one_url_takes_a_few_at_a_time_and_holds_up_nobody(store: SqliteStore) -> None:
    for _ in range(EACH + 3):
        await insert(store, hooked("queued"))
    await insert(store, hooked("queued", url="https://other.example/"))
    due = await store.outbox.due(1e12)
    urls = [one.parcel["url"] for one in due]
    assert (urls.count(URL), len(urls)) == (EACH, EACH + 1)


async def test_more_urls_than_fit_come_in_turn(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what nobody takes comes again in the next round."""
    monkeypatch.setattr(module, "MOST", 2)
    urls = [f"https://{name}.example/" for name in "abc"]
    for url in urls:
        await insert(store, hooked("queued", url=url))
    rounds = [[one.parcel["url"] for one in await store.outbox.due(1e12)] for _ in range(3)]
    assert rounds == [urls[:2], [urls[2], urls[0]], urls[1:]]


async def test_no_query_of_the_outbox_scans_or_sorts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: dict[str, list[str]] = {}
    explained = type("Recorded", (Explained,), {"plans": plans})
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=explained))
    store = SqliteStore(tmp_path)
    await insert(store, hooked("queued"))
    (due,) = await store.outbox.due(1e12)
    await store.outbox.next_due(0)
    await store.outbox.expects_batches()
    await store.outbox.settle({due.parcel["number"]: Ruling(CALL, "failed", disabled="gone")})
    await store.outbox.page("ann", {}, 10, None)
    await store.outbox.page("ann", {"job_id": "x", "state": "failed"}, 10, 7)
    await store.outbox.again(due.parcel["id"], "ann", 1.0)
    await store.outbox.test("ann", URL, 1.0)
    await store.outbox.forget(1.0, 10)
    await store.close()
    assert any("outbox" in sql for sql in plans)
    slow = {sql: plan for sql, plan in plans.items() if any(map(is_slow, plan))}
    assert not slow


async def test_a_failed_call_waits_and_keeps_the_later_events_of_its_job(
    store: SqliteStore,
) -> None:
    one = hooked("queued", "completed")
    await insert(store, one)
    await ended(store, one)
    (first,) = await store.outbox.due(1e12)
    number = first.parcel["number"]
    waits = Ruling(CALL, "waiting", due=2e12, reason="the receiver answered 500")
    await store.outbox.settle({number: waits})
    assert await store.outbox.due(1e12) == []
    assert await store.outbox.next_due(1e12) == 2e12
    (again,) = await store.outbox.due(3e12)
    assert (again.tries, again.failing_since) == (1, 5.0)
    await store.outbox.settle({number: Ruling(CALL, "delivered")})
    (last,) = await store.outbox.due(3e12)
    assert (last.event, last.failing_since) == ("completed", None)
    await store.outbox.settle({last.parcel["number"]: Ruling(CALL, "failed", reason="why")})
    assert await store.outbox.due(1e13) == []
    assert await store.outbox.next_due(0) is None


async def test_a_url_that_is_off_gets_nothing_more_until_somebody_asks(store: SqliteStore) -> None:
    for _ in range(2):
        await insert(store, hooked("queued"))
    first, _ = await store.outbox.due(1e12)
    off = Ruling(CALL, "failed", reason="it is gone", disabled="it is gone")
    await store.outbox.settle({first.parcel["number"]: off})
    await insert(store, hooked("queued"))
    page = await store.outbox.page("ann", {}, 10, None)
    states = [(found["state"], found["reason"]) for found in page["deliveries"]]
    assert states == [("dropped", "it is gone")] * 2 + [("failed", "it is gone")]
    assert await store.outbox.due(1e12) == []
    assert await store.outbox.again(first.parcel["id"], "ben", 1.0) is None
    again = await store.outbox.again(first.parcel["id"], "ann", 1.0)
    assert again is not None
    assert (again["state"], again["tries"], len(again["calls"])) == ("waiting", 0, 1)
    await insert(store, hooked("queued"))
    assert len(await store.outbox.due(1e12)) == 2


async def test_a_test_is_sent_although_the_url_is_off(store: SqliteStore) -> None:
    await insert(store, hooked("queued"))
    (due,) = await store.outbox.due(1e12)
    off = Ruling(CALL, "failed", reason="gone", disabled="gone")
    await store.outbox.settle({due.parcel["number"]: off})
    asked = await store.outbox.test("ann", URL, 1.0)
    assert (asked["state"], asked["job_id"], asked["event"]) == ("waiting", None, "test")
    (test,) = await store.outbox.due(1e12)
    assert json.loads(test.parcel["body"])["type"] == "test"
    await store.outbox.settle({asked["number"]: Ruling(CALL, "delivered")})
    await insert(store, hooked("queued"))
    assert [one.event for one in await store.outbox.due(1e12)] == ["queued"]


async def test_deliveries_are_listed_to_their_owner_page_by_page(store: SqliteStore) -> None:
    jobs = [hooked("queued") for _ in range(5)]
    for one in jobs:
        await insert(store, one)
    await insert(store, hooked("queued", owner="ben"))
    first = await store.outbox.page("ann", {}, 3, None)
    rest = await store.outbox.page("ann", {}, 3, first["older"])
    found = [one["job_id"] for one in first["deliveries"] + rest["deliveries"]]
    assert found == [one.job_id for one in jobs][::-1]
    assert rest["older"] is None
    of_one = await store.outbox.page("ann", {"job_id": jobs[1].job_id}, 3, None)
    assert [one["job_id"] for one in of_one["deliveries"]] == [jobs[1].job_id]
    assert (await store.outbox.page("ann", {"state": "failed"}, 3, None))["deliveries"] == []


async def test_what_has_been_over_for_long_is_forgotten(store: SqliteStore) -> None:
    for _ in range(3):
        await insert(store, hooked("queued"))
    first, second, _ = await store.outbox.due(1e12)
    await store.outbox.settle({first.parcel["number"]: Ruling(CALL, "delivered")})
    late = Ruling({**CALL, "at": 50.0}, "failed", reason="why")
    await store.outbox.settle({second.parcel["number"]: late})
    assert await store.outbox.forget(20.0, 10) == 1
    assert len(await events(store)) == 2
