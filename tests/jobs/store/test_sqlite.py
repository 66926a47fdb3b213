"""The store: databases of older code become ones of this, and time never goes back."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time as real_time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import StoreHeld
from serve_app.jobs.clock import Clock
from serve_app.jobs.job import work_of
from serve_app.jobs.store.database import COPIED_EVERY, LOG_PAGES
from serve_app.jobs.store.schema import SCHEMA_VERSION
from serve_app.jobs.store.sqlite import SqliteStore

from .harness import PARAMS, World, new_order, nothing_lives

VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY, owner TEXT NOT NULL, status TEXT NOT NULL, line INTEGER NOT NULL,
    created_at REAL NOT NULL, started_at REAL, completed_at REAL,
    fence INTEGER NOT NULL, attempts INTEGER NOT NULL, alone INTEGER NOT NULL,
    params TEXT NOT NULL, images TEXT NOT NULL, error TEXT
) WITHOUT ROWID;
CREATE INDEX live ON jobs (line) WHERE status IN ('PENDING', 'STARTED', 'RETRY');
CREATE INDEX finished ON jobs (completed_at) WHERE completed_at IS NOT NULL;
CREATE TABLE idempotency (
    owner TEXT NOT NULL, key TEXT NOT NULL, job_id TEXT NOT NULL, body_hash TEXT NOT NULL,
    created_at REAL NOT NULL, PRIMARY KEY (owner, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at);
INSERT INTO meta VALUES ('epoch', 7);
PRAGMA journal_mode = WAL;
PRAGMA user_version = 1;
"""


def old_row(
    job_id: str, line: int, created_at: float, status: str = "PENDING", fence: int = 0, **more: Any
) -> tuple[Any, ...]:
    params = {**PARAMS, "style_id": f"style-{line % 2}", "n": 1 + line % 2}
    ended = created_at + 5 if status in ("SUCCESS", "FAILURE") else None
    started = created_at + 1 if fence and status != "PENDING" else None
    row = (job_id, "ann", status, line, created_at, started, ended, fence, more.get("attempts", 0))
    error = json.dumps(more.get("error"))
    return (*row, 0, json.dumps(params), json.dumps(more.get("images", [])), error)


def old_database(directory: Path, rows: list[tuple[Any, ...]], keys: dict[str, str]) -> None:
    directory.mkdir()
    db = sqlite3.connect(directory / "jobs.db")
    db.executescript(VERSION_1)
    db.executemany(f"INSERT INTO jobs VALUES ({', '.join('?' * 13)})", rows)
    now = real_time.time()
    db.executemany(
        "INSERT INTO idempotency VALUES ('ann', ?, ?, 'hash', ?)",
        [(key, job_id, now) for key, job_id in keys.items()],
    )
    db.commit()
    db.close()


async def test_jobs_of_version_1_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """All rows, in their order, under their keys; live ones are drawn, finished ones are shown."""
    (tmp_path / "out").mkdir()
    start = real_time.time() - 100
    files = World(tmp_path).files
    image = files.put("done", 1)
    files.put("failed", 2)  # a loser's, which the life before had no time to remove
    error = {"code": "non_finite", "title": "t", "detail": "d", "retryable": False}
    rows = [
        old_row("done", 1, start, "SUCCESS", 1, images=[image]),
        old_row("failed", 2, start + 1, "FAILURE", 2, error=error, attempts=1),
        old_row("ran", 3, start + 2, "STARTED", 3, attempts=1),
        old_row("retried", 4, start + 3, "RETRY", 1),
        *[old_row(f"waits-{line}", line, start + line) for line in range(5, 12)],
    ]
    old_database(tmp_path / "state", rows, {"k-done": "done", "k-ran": "ran"})
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        assert world.registry.epoch == 8
        for key, job_id in (("k-done", "done"), ("k-ran", "ran")):
            reply = await world.registry.submit(new_order(idempotency_key=key, body_hash="hash"))
            assert (reply["job"]["job_id"], reply["replayed"]) == (job_id, True)
            reply = await world.registry.submit(new_order(idempotency_key=key, body_hash="other"))
            assert reply["error"]["code"] == "idempotency_key_reuse"
        done, failed, ran = [await world.look(name) for name in ("done", "failed", "ran")]
        assert (done["status"], done["images"], done["completed_at"]) == (
            "SUCCESS",
            [image],
            start + 5,
        )
        assert (failed["status"], failed["error"], failed["fence"]) == ("FAILURE", error, 2)
        assert (ran["owner"], ran["client"], ran["priority"]) == ("ann", "ann", "normal")
        assert (ran["attempts"], ran["tags"], ran["metadata"]) == (1, [], {})
        assert ran["params"]["style_id"] == "style-1"
        new = await world.submit()
        page = await world.registry.page("ann", {}, 100, None, None)
        expected = [new, *[row[0] for row in reversed(rows)]]
        assert [job["job_id"] for job in page["jobs"]] == expected
        page = await world.registry.page("ann", {"style_id": "style-1"}, 100, None, None)
        assert len(page["jobs"]) == 6
        await world.until(lambda: "failed_2.png" not in world.files.names())

        order: list[str] = []
        while len(order) < 10:
            await world.until(lambda: world.launcher.running)
            job_id, fence = next(iter(world.launcher.running))
            await world.draw(job_id, fence)
            await world.until(lambda j=job_id: all(r[0] != j for r in world.launcher.running))
            order.append(job_id)
        assert order == ["ran", "retried", *[f"waits-{line}" for line in range(5, 12)], new]
        assert world.launcher.launched[0]["fence"] == 4
        await world.until(lambda: nothing_lives(world))
        await world.die_and_rise()
        assert world.registry.epoch == 9
        assert (await world.look("done"))["images"] == [image]
        assert await world.status("ran") == "SUCCESS"
        assert (await world.registry.delete("done", "ann") or {}).get("gone") == "deleted"


async def test_an_upgrade_keeps_the_order_of_a_host_whose_clock_was_put_back(
    tmp_path: Path,
) -> None:
    """The line of version 1 was a count; times that went back must neither reorder nor collide."""
    start = 1_800_000_000.0
    back = [start + 0.000_010, start + 0.000_009, start - 3600, start + 0.000_007, start + 5]
    rows = [old_row(f"{i}", i + 1, moment) for i, moment in enumerate(back)]
    old_database(tmp_path / "state", rows, {})
    store = SqliteStore(tmp_path / "state")
    waiting = sorted(await store.take_over(), key=lambda job: job.number)
    assert [job.job_id for job in waiting] == ["0", "1", "2", "3", "4"]
    assert waiting[0].work == pytest.approx(work_of({**PARAMS, "n": 2}))
    assert abs(waiting[0].order / 1e6 - start) < 1
    first = await store.get("0")
    assert first is not None
    assert first.created_at == back[0]
    await store.close()


async def test_an_upgrade_that_is_cut_short_leaves_the_old_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_database(tmp_path / "state", [old_row("a", 1, 100.0)], {})
    with monkeypatch.context() as patch:
        patch.setattr("serve_app.jobs.store.database.SCHEMA", "SELECT no_such_function();")
        with pytest.raises(sqlite3.OperationalError):
            SqliteStore(tmp_path / "state")
    with sqlite3.connect(tmp_path / "state" / "jobs.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT job_id, line FROM jobs").fetchall() == [("a", 1)]
    db.close()
    store = SqliteStore(tmp_path / "state")
    assert [job.job_id for job in await store.take_over()] == ["a"]
    await store.close()


async def test_an_upgraded_database_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    old_database(tmp_path / "old", [old_row("a", 1, 100.0)], {"k": "a"})
    (tmp_path / "new").mkdir()
    shapes: list[list[tuple[str, str]]] = []
    for name in ("old", "new"):
        for _ in range(2):
            await SqliteStore(tmp_path / name).close()
        with sqlite3.connect(tmp_path / name / "jobs.db") as db:
            assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            sql = "SELECT type, name FROM sqlite_master ORDER BY type, name"
            columns = "SELECT 'column', name FROM pragma_table_info('jobs') ORDER BY name"
            shapes.append(db.execute(sql).fetchall() + db.execute(columns).fetchall())
        db.close()
    assert shapes[0] == shapes[1]


async def test_a_database_of_newer_code_is_left_alone(tmp_path: Path) -> None:
    await SqliteStore(tmp_path).close()
    db = sqlite3.connect(tmp_path / "jobs.db")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(StoreHeld, match=f"schema {SCHEMA_VERSION + 1}"):
        SqliteStore(tmp_path, lock_timeout_s=0)


# ---- the clock ----


@dataclass
class Wall:
    """`time` with a wall clock that tests put back and forth."""

    ahead: float = 0.0

    def time(self) -> float:
        return real_time.time() + self.ahead

    def monotonic(self) -> float:
        return real_time.monotonic()


@pytest.fixture(name="wall")
def _wall(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wall]:
    wall = Wall()
    monkeypatch.setattr("serve_app.jobs.clock.time", wall)
    monkeypatch.setattr("serve_app.jobs.registry.time", wall)
    return wall  # type: ignore[return-value]


def test_numbers_only_grow(wall: Wall) -> None:
    """In a burst, while the clock jumps, and over restarts."""
    last = 0
    for ahead in (0.0, -3600.0, 7200.0, -86400.0):
        clock = Clock(last)
        wall.ahead = ahead
        numbers = [clock.number() for _ in range(2000)]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > last
        last = numbers[-1]
        assert clock.now() >= last / 1e6 - 0.01


async def test_a_clock_that_is_put_back_reorders_nothing(tmp_path: Path, wall: Wall) -> None:
    """Within one life and over a restart: lists, the line and the times of a job keep their order."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        busy = await world.submit()
        await world.started(busy)
        jobs = [busy]
        for deadlines, ahead in enumerate((-3600.0, -7200.0), 1):
            wall.ahead = ahead
            jobs += [await world.submit(deadline=wall.time() + 60, cancel_after_s=1800)]
            await world.die_and_rise()
            assert world.registry.stats()["deadlines"] == deadlines
            jobs += [await world.submit(deadline=wall.time() + 60)]
        page = await world.registry.page("ann", {}, 100, None, None)
        assert [job["job_id"] for job in page["jobs"]] == jobs[::-1]
        for job_id in jobs:
            fence = (await world.look(job_id))["fence"]
            await world.until(lambda j=job_id: any(r[0] == j for r in world.launcher.running))
            fence = next(f for j, f in world.launcher.running if j == job_id)
            await world.draw(job_id, fence)
            view = await world.look(job_id)
            assert view["started_at"] is not None
            assert view["completed_at"] is not None
            assert view["created_at"] <= view["started_at"] + 1e-3
            assert view["started_at"] <= view["completed_at"]
        await world.until(lambda: nothing_lives(world))


async def test_a_clock_that_is_put_forward_expires_nothing(tmp_path: Path, wall: Wall) -> None:
    async with World(tmp_path, {"retention_s": 3600, "max_in_flight": 1}) as world:
        busy, job_id = await world.submit(), await world.submit(cancel_after_s=600)
        wall.ahead = 1e6
        await world.draw(busy)
        assert await world.draw(job_id)
        assert (
            await world.registry._store.ended_before(
                world.registry._endings.retired_before() or 0, 9
            )
            == []
        )


async def test_writes_share_a_commit_and_fail_alone(tmp_path: Path) -> None:
    """An operation that fails in a group takes no other with it."""
    store = SqliteStore(tmp_path)

    def write(key: str) -> Any:
        return store._write(
            lambda db: db.execute("INSERT INTO meta VALUES (?, 1)", (key,)).rowcount
        )

    results = await asyncio.gather(
        *(write(key) for key in ("a", "epoch", "b")), return_exceptions=True
    )
    assert [type(result) for result in results] == [int, sqlite3.IntegrityError, int]
    rows = await store._read(lambda db: db.execute("SELECT key FROM meta ORDER BY key").fetchall())
    assert [key for (key,) in rows] == ["a", "b", "epoch"]
    await store.close()


async def test_the_log_is_copied_beside_the_writer(tmp_path: Path) -> None:
    """The database file soon has what was written, long before the writer would copy it itself."""
    store = SqliteStore(tmp_path)
    try:
        for write in range(LOG_PAGES // 8):  # a write is a page or two
            await store._write(
                lambda db, key=f"write {write}": db.execute(
                    "INSERT INTO meta VALUES (?, 1)", (key,)
                )
            )
            if b"write 0" in (tmp_path / "jobs.db").read_bytes():
                break
        else:
            pytest.fail("nothing was copied")
        assert write >= COPIED_EVERY - 1
    finally:
        await store.close()
