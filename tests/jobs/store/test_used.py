"""What each owner uses is counted where it is used and freed, and never twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from serve_app.jobs.job import Job, Status, bytes_of
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.jobs.store.used import DAY_S, Used
from tests.factories import image_file, job, new_id

DAY = 20_000 * DAY_S
FILES = [
    {"role": "original", "path": "o.png", "content_type": "", "size_bytes": 40, "sha256": ""},
    {"role": "asset", "path": "a.png", "content_type": "", "size_bytes": 100, "sha256": ""},
]


async def ended(store: SqliteStore, at: float, seconds: float = 2.0, **changes: object) -> Job:
    one = job(job_id=new_id(), number=int(at * 1e6), created_at=at - 5)
    await store.insert(one, key=None, body_hash="", key_expires_before=0.0)
    image = image_file(path="a.png", size_bytes=100, files=FILES)
    done = one.evolve(
        status=Status.SUCCESS, started_at=at - 1, completed_at=at, images=(image,), **changes
    )
    assert await store.update(done, expected_fence=0, device_seconds=seconds)
    return done


async def test_seconds_are_of_a_day_and_bytes_stay(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    assert await store.used_by("ann", DAY) == Used(0.0, 0)
    first = await ended(store, DAY + 10)
    assert await store.update(first, expected_fence=0, device_seconds=9.0) is None
    await ended(store, DAY + 20, 3.0)
    assert await store.used_by("ann", DAY + 30) == Used(5.0, 280)
    assert await store.used_by("ben", DAY + 30) == Used(0.0, 0)
    assert await store.used_by("ann", DAY + DAY_S) == Used(0.0, 280)
    await store.spend("ann", 1.5, DAY + DAY_S + 1)
    for _ in range(2):  # two clients delete it at once
        await store.bury([first], "deleted", DAY)
    assert await store.used_by("ann", DAY + DAY_S + 2) == Used(1.5, 140)
    await store.close()


async def test_an_older_store_is_counted_when_it_is_opened(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    done = await ended(store, DAY)
    await ended(store, DAY + 1)
    await store.close()
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        db.executescript("DROP TABLE used; PRAGMA user_version = 9;")
    store = SqliteStore(tmp_path)
    assert await store.used_by("ann", DAY) == Used(0.0, 2 * bytes_of(done.images))
    await store.close()
