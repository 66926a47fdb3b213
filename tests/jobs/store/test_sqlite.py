"""The store: what each query finds, and that a superseded attempt writes nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

import pytest

from serve_app.jobs.job import Job, Status
from serve_app.jobs.store.sqlite import Inserted, SqliteStore
from tests.factories import image_file, job, labels, summary
from tests.jobs.harness import insert
from tests.jobs.store.opens import Opens


def numbered(number: int, **changes: Any) -> Job:
    return job(job_id=f"j{number}", number=number, created_at=number / 1e6, **changes)


async def put(store: SqliteStore, number: int, status: Status, *, fence: int = 1) -> Job:
    """A stored job that ended at second `number`."""
    new = numbered(number)
    await insert(store, new)
    ended = new.evolve(status=status, fence=fence, completed_at=float(number))
    assert await store.update(ended, expected_fence=0)
    return ended


# ---- insert ----


async def test_an_order_is_stored_once(store: SqliteStore) -> None:
    """Whether its id or its key comes again; another body under the key is found out."""

    async def again(new: Job, key: str | None, body: str, **how: Any) -> Inserted | str:
        return await store.insert(new, key=key, body_hash=body, key_expires_before=0.0, **how)

    first, second = numbered(1), numbered(2)
    assert await again(first, "k", "h") == Inserted("j1", existed=False, same_body=True)
    assert await again(first, None, "") == Inserted("j1", existed=True, same_body=True)
    assert await again(second, "k", "h") == Inserted("j1", existed=True, same_body=True)
    assert await again(second, "k", "x") == Inserted("j1", existed=True, same_body=False)
    assert await again(second.evolve(owner="bob"), "k", "h") == Inserted("j2", False, True)
    await store.bury([first.evolve(status=Status.REVOKED)], "deleted", 1.0)
    assert await again(first, None, "") == Inserted("j1", existed=True, same_body=True)
    assert await store.get("j1") is None


async def test_what_is_refused_is_not_stored_unless_it_is_known(store: SqliteStore) -> None:
    kwargs: dict[str, Any] = {"key": "k", "body_hash": "h", "key_expires_before": 0.0}
    assert await store.insert(numbered(1), refused=lambda: "full", **kwargs) == "full"
    assert await store.get("j1") is None
    await store.insert(numbered(1), **kwargs)
    replay = await store.insert(numbered(2), refused=lambda: "full", **kwargs)
    assert replay == Inserted("j1", existed=True, same_body=True)


async def test_an_old_key_is_forgotten(store: SqliteStore) -> None:
    for number, before in ((1_000_000, 0.0), (5_000_000, 1.5)):
        stored = await store.insert(
            numbered(number), key="k", body_hash="h", key_expires_before=before
        )
        assert stored == Inserted(f"j{number}", existed=False, same_body=True)


# ---- update ----


@pytest.mark.parametrize("status", [Status.PENDING, Status.STARTED, Status.RETRY])
async def test_an_update_needs_the_fence_that_the_row_has(
    store: SqliteStore, status: Status
) -> None:
    await insert(store, numbered(1))
    held = numbered(1).evolve(fence=2, status=status)
    assert await store.update(held, expected_fence=0)
    assert not await store.update(held.evolve(fence=3), expected_fence=1)
    assert not await store.update(held.evolve(fence=3), expected_fence=3)
    assert await store.get("j1") == held
    assert not await store.update(numbered(2), expected_fence=0), "no such row"


@pytest.mark.parametrize("status", [Status.SUCCESS, Status.FAILURE, Status.REVOKED])
async def test_an_end_is_final(store: SqliteStore, status: Status) -> None:
    ended = await put(store, 1, status)
    for other in Status:
        assert not await store.update(ended.evolve(status=other), expected_fence=1)
    assert await store.get("j1") == ended


# ---- what the life of a registry asks ----


async def test_a_new_life_finds_all_that_lives(open_store: Opens) -> None:
    """What was being drawn, and what the line must know of each."""
    store = open_store()
    statuses = (Status.PENDING, Status.STARTED, Status.RETRY)
    for number, status in enumerate(statuses, 1):
        new = numbered(number, deadline=float(number))
        await insert(store, new)
        started_at = 1.0 if status is Status.STARTED else None
        await store.update(new.evolve(status=status, started_at=started_at), expected_fence=0)
    for number, status in enumerate((Status.SUCCESS, Status.FAILURE, Status.REVOKED), 4):
        await put(store, number, status)
    said = labels(client="build", priority="high")
    full = numbered(1_500_000, labelled=said, summary=summary(work=1.25), deadline=9.5)
    await insert(store, full)
    await store.close()
    store = open_store()
    found = {live.job_id: live for live in await store.live()}
    assert found.keys() == {"j1", "j2", "j3", "j1500000"}
    live = found["j1500000"]
    assert (live.client, live.priority, live.number) == ("build", "high", 1_500_000)
    assert (live.deadline, live.work, live.place) == (9.5, 1.25, full.place)
    assert found["j2"].deadline == 2.0
    assert [(job.job_id, job.started_at) for job in await store.started()] == [("j2", 1.0)]
    assert await store.last_number() == 1_500_000
    await store.close()


async def test_jobs_that_ended_are_found_by_their_time(store: SqliteStore) -> None:
    assert await store.last_number() == 0
    await insert(store, numbered(9))
    ended = [await put(store, number, Status.SUCCESS) for number in (3, 1, 2)]
    assert await store.recent(2) == [ended[2], ended[0]]
    assert {job.job_id for job in await store.ended_before(2.5, 10)} == {"j1", "j2"}
    assert len(await store.ended_before(2.5, 1)) == 1
    assert await store.ended_before(1.0, 10) == []


async def test_a_deleted_job_leaves_its_name(store: SqliteStore) -> None:
    new = numbered(1, labelled=labels(tags=["a"]))
    await store.insert(new, key="k", body_hash="h", key_expires_before=0.0)
    await store.bury([new.evolve(status=Status.REVOKED)], "expired", 1.0)
    assert await store.get("j1") is None
    assert await store.tombstone("j1") == {"job_id": "j1", "owner": "ann", "gone": "expired"}
    assert await store.tombstone("j2") is None
    with contextlib.closing(sqlite3.connect(store._database.path)) as db:
        for table in ("jobs", "tags", "idempotency"):
            assert db.execute(f"SELECT * FROM {table}").fetchall() == []


async def test_a_tombstone_is_forgotten_when_it_is_old_and_its_files_are_swept(
    open_store: Opens,
) -> None:
    store = open_store()
    for number in (1, 2, 3):
        await store.bury([await put(store, number, Status.REVOKED)], "deleted", float(number))
    assert await store.forget_gone(9.0, 10) == 0, "the next life looks for their files"
    await store.close()
    store = open_store()
    await store.swept()
    assert await store.forget_gone(2.5, 1) == 1
    assert await store.forget_gone(2.5, 10) == 1
    assert [await store.tombstone(f"j{number}") is None for number in (1, 2, 3)] == [1, 1, 0]
    await store.close()


async def test_what_may_have_left_files_is_known_until_it_is_swept(open_store: Opens) -> None:
    """An end of this life is swept by the next one, which does not know what still runs."""
    store = open_store()
    await insert(store, numbered(1))  # lives
    await put(store, 2, Status.SUCCESS)  # left nothing
    twice = numbered(3)
    await insert(store, twice)
    images = (image_file(path="3.png"),)
    twice = twice.evolve(status=Status.SUCCESS, fence=2, completed_at=3.0, images=images)
    await store.update(twice, expected_fence=0)
    await put(store, 4, Status.FAILURE)
    await store.bury([await put(store, 5, Status.REVOKED)], "deleted", 1.0)
    expected = {"j3": {"3.png"}, "j4": set[str](), "j5": set[str]()}
    assert await store.littering() == expected
    await store.swept()
    assert await store.littering() == expected
    await store.close()
    store = open_store()
    assert await store.littering() == expected
    await store.swept()
    assert await store.littering() == {}
    await store.close()
