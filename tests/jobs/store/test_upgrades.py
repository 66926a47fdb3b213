"""Databases of older versions become ones of today, and their jobs go on as if nothing had happened."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs.store.redis import RedisKeeper
from serve_app.jobs.store.schema import SCHEMA_VERSION
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import Webhook
from serve_app.params import summary_of
from serve_app.tools.store_copy import FileEnd, RedisEnd, copy
from tests.factories import labels, params, submission
from tests.jobs.harness import ERROR, World, nothing_lives
from tests.redis_server import redis_server

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
VERSION_2 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE jobs (
    line INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, client TEXT NOT NULL,
    priority TEXT NOT NULL, status TEXT NOT NULL, style_id TEXT NOT NULL,
    created_at REAL NOT NULL, started_at REAL, completed_at REAL, deadline REAL,
    fence INTEGER NOT NULL, attempts INTEGER NOT NULL, alone INTEGER NOT NULL, work REAL NOT NULL,
    ended INTEGER, retry_of TEXT, tags TEXT NOT NULL, metadata TEXT NOT NULL,
    params TEXT NOT NULL, images TEXT NOT NULL, error TEXT
);
CREATE INDEX jobs_live ON jobs (status) WHERE status IN ('PENDING', 'STARTED', 'RETRY');
CREATE INDEX jobs_finished ON jobs (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_littering ON jobs (ended) WHERE fence > 1 OR status != 'SUCCESS';
CREATE INDEX jobs_owner ON jobs (owner);
CREATE INDEX jobs_status ON jobs (owner, status);
CREATE INDEX jobs_style ON jobs (owner, style_id);
CREATE INDEX jobs_status_style ON jobs (owner, status, style_id);
CREATE TABLE tags (
    owner TEXT NOT NULL, tag TEXT NOT NULL, line INTEGER NOT NULL, PRIMARY KEY (owner, tag, line)
) WITHOUT ROWID;
CREATE TABLE gone (
    job_id TEXT PRIMARY KEY, owner TEXT NOT NULL, why TEXT NOT NULL, epoch INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX gone_epoch ON gone (epoch);
CREATE TABLE idempotency (
    owner TEXT NOT NULL, key TEXT NOT NULL, job_id TEXT NOT NULL, body_hash TEXT NOT NULL,
    created_at REAL NOT NULL, PRIMARY KEY (owner, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at);
CREATE INDEX idempotency_job ON idempotency (job_id);
INSERT INTO meta VALUES ('epoch', 7), ('swept', 5);
PRAGMA journal_mode = WAL;
PRAGMA user_version = 2;
"""
VERSION_3 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, status TEXT NOT NULL,
    created_at REAL NOT NULL, started_at REAL, completed_at REAL, deadline REAL,
    fence INTEGER NOT NULL, attempts INTEGER NOT NULL, alone INTEGER NOT NULL, ended INTEGER,
    kind TEXT NOT NULL, pool TEXT NOT NULL, model TEXT NOT NULL, model_revision TEXT NOT NULL,
    style_id TEXT NOT NULL, seed INTEGER NOT NULL, n INTEGER NOT NULL, work REAL NOT NULL,
    client TEXT NOT NULL, priority TEXT NOT NULL, labels TEXT NOT NULL,
    params TEXT NOT NULL, images TEXT NOT NULL, error TEXT
);
CREATE TABLE tags (
    owner TEXT NOT NULL, tag TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (owner, tag, number)
) WITHOUT ROWID;
CREATE TABLE gone (
    job_id TEXT PRIMARY KEY, owner TEXT NOT NULL, why TEXT NOT NULL, epoch INTEGER NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE idempotency (
    owner TEXT NOT NULL, key TEXT NOT NULL, job_id TEXT NOT NULL, body_hash TEXT NOT NULL,
    created_at REAL NOT NULL, PRIMARY KEY (owner, key)
) WITHOUT ROWID;

CREATE INDEX jobs_live ON jobs (status) WHERE status IN ('PENDING', 'STARTED', 'RETRY');
CREATE INDEX jobs_finished ON jobs (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_littering ON jobs (ended) WHERE fence > 1 OR status != 'SUCCESS';
CREATE INDEX jobs_owner ON jobs (owner);
CREATE INDEX jobs_status ON jobs (owner, status);
CREATE INDEX jobs_style ON jobs (owner, style_id);
CREATE INDEX jobs_status_style ON jobs (owner, status, style_id);
CREATE INDEX gone_epoch ON gone (epoch);
CREATE INDEX gone_at ON gone (at);
CREATE INDEX idempotency_age ON idempotency (created_at);
CREATE INDEX idempotency_job ON idempotency (job_id);
INSERT INTO meta VALUES ('epoch', 7), ('swept', 5);
PRAGMA journal_mode = WAL;
PRAGMA user_version = 3;
"""
VERSION_4 = VERSION_3.replace(
    "images TEXT NOT NULL, error TEXT\n",
    "images TEXT NOT NULL, error TEXT, troubles TEXT NOT NULL DEFAULT '{}',"
    " extra_files INTEGER NOT NULL DEFAULT 0\n",
).replace("user_version = 3", "user_version = 4")
VERSION_7 = (
    VERSION_4.replace("user_version = 4", "user_version = 7")
    + """
CREATE TABLE batches (
    number INTEGER PRIMARY KEY, batch_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
    created_at REAL NOT NULL, completed_at REAL, size INTEGER NOT NULL, reused INTEGER NOT NULL,
    reused_rows TEXT NOT NULL, changes INTEGER NOT NULL,
    pending INTEGER NOT NULL, started INTEGER NOT NULL, retry INTEGER NOT NULL, success INTEGER NOT NULL,
    failure INTEGER NOT NULL, revoked INTEGER NOT NULL, deleted INTEGER NOT NULL
);
CREATE TABLE batch_rows (
    batch INTEGER NOT NULL, row INTEGER NOT NULL, job INTEGER NOT NULL, status TEXT NOT NULL,
    key BLOB NOT NULL, name TEXT, reused INTEGER NOT NULL, PRIMARY KEY (batch, row)
) WITHOUT ROWID;
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, job_id TEXT,
    event TEXT NOT NULL, url TEXT NOT NULL, body TEXT NOT NULL, created_at REAL NOT NULL,
    state TEXT NOT NULL, reason TEXT, due REAL, done_at REAL, tries INTEGER NOT NULL DEFAULT 0,
    calls TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE endpoints (
    owner TEXT NOT NULL, url TEXT NOT NULL, failing_since REAL NOT NULL, disabled TEXT,
    PRIMARY KEY (owner, url)
) WITHOUT ROWID;
CREATE TABLE batch_hooks (
    batch INTEGER PRIMARY KEY, url TEXT NOT NULL, root TEXT NOT NULL, open INTEGER NOT NULL
);
CREATE TRIGGER batch_ended AFTER UPDATE OF completed_at ON batches
    WHEN (NEW.completed_at IS NULL) != (OLD.completed_at IS NULL)
    AND EXISTS (SELECT 1 FROM batch_hooks WHERE batch = NEW.number)
BEGIN
    INSERT OR IGNORE INTO outbox (id, owner, event, url, body, created_at, state, reason, due, done_at)
        SELECT 'msg_' || b.batch_id || '_' || b.changes || '_completed', b.owner, 'completed', h.url,
            json_object('type', 'batch.completed'), b.completed_at, 'waiting', NULL, b.completed_at, NULL
        FROM batch_hooks AS h JOIN batches AS b ON b.number = h.batch
        WHERE h.batch = NEW.number AND b.completed_at IS NOT NULL;
    UPDATE batch_hooks SET open = 0 WHERE batch = NEW.number;
END;
CREATE TRIGGER batch_job_moved AFTER UPDATE OF status ON jobs WHEN NEW.status != OLD.status
BEGIN
    UPDATE batch_rows SET status = NEW.status WHERE job = NEW.number;
END;
"""
)
Row = dict[str, Any]  # by column
ODD = {"odd": "\ud800\0 ключ", "huge": 10**400, "deep": [[[{"a": None}]]]}  # what JSON can hold


def row_1(job_id: str, line: int, created_at: float, status: str = "PENDING", **more: Any) -> Row:
    """A job of version 1; `more` are columns."""
    fence = more.get("fence", 0)
    order = params(style_id=f"style-{line % 2}", n=1 + line % 2)
    row: Row = {
        "job_id": job_id,
        "owner": "ann",
        "status": status,
        "line": line,
        "created_at": created_at,
        "started_at": created_at + 1 if fence and status != "PENDING" else None,
        "completed_at": created_at + 5 if status in ("SUCCESS", "FAILURE", "REVOKED") else None,
        "fence": 0,
        "attempts": 0,
        "alone": 0,
        "params": order.model_dump(),
        "images": [],
        "error": None,
        **more,
    }
    for name in ("params", "images", "error"):
        row[name] = json.dumps(row[name])
    return row


def row_2(job_id: str, line: int, status: str = "PENDING", **more: Any) -> Row:
    """A job of version 2, which has all columns of version 1."""
    added = {
        "client": "ann",
        "priority": "normal",
        "style_id": f"style-{line % 2}",
        "work": params(n=1 + line % 2).work,
        "deadline": None,
        "ended": None,
        "retry_of": None,
    }
    tags, metadata = more.pop("tags", []), more.pop("metadata", {})
    return {
        **row_1(job_id, line, line / 1e6, status, **{**added, **more}),
        "tags": json.dumps(tags),
        "metadata": json.dumps(metadata),
    }


def row_3(job_id: str, number: int, status: str = "PENDING", **more: Any) -> Row:
    """A job of version 3. Its summary has columns of their own, and its labels one."""
    row = row_2(job_id, number, status, **more)
    said = {name: json.loads(row.pop(name)) for name in ("tags", "metadata")}
    said |= {"client": row["client"], "priority": row["priority"], "retry_of": row.pop("retry_of")}
    summary = dict(summary_of(params(style_id=row["style_id"], n=1 + number % 2)))
    del summary["extra_files"]
    return {"number": row.pop("line"), **row, **summary, "labels": json.dumps(said)}


def old_database(
    directory: Path, version: str, rows: Iterable[Row], keys: dict[str, str] | None = None
) -> None:
    """`keys`: idempotency key -> job id."""
    directory.mkdir()
    db = sqlite3.connect(directory / "jobs.db")
    db.executescript(version)
    for row in rows:
        marks = ", ".join(f":{name}" for name in row)
        db.execute(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({marks})", row)
        for tag in json.loads(row.get("tags", "[]")):
            db.execute("INSERT INTO tags VALUES (?, ?, ?)", (row["owner"], tag, row["line"]))
    db.executemany(
        "INSERT INTO idempotency VALUES ('ann', ?, ?, 'hash', ?)",
        [(key, job_id, time.time()) for key, job_id in (keys or {}).items()],
    )
    db.commit()
    db.close()


def contents(directory: Path) -> list[str]:
    """The whole database as SQL, and its version."""
    with contextlib.closing(sqlite3.connect(directory / "jobs.db")) as db:
        return [*db.iterdump(), f"version {db.execute('PRAGMA user_version').fetchone()[0]}"]


async def test_jobs_of_version_1_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """All rows, in their order, under their keys; live ones are drawn, finished ones are shown."""
    (tmp_path / "out").mkdir()
    start = time.time() - 100
    files = World(tmp_path).files
    image = files.put("done", 1)
    files.put("failed", 2)  # by an attempt that lost, and that nobody had time to remove
    rows = [
        row_1("done", 1, start, "SUCCESS", fence=1, images=[image]),
        row_1("failed", 2, start + 1, "FAILURE", fence=2, error=ERROR, attempts=1),
        row_1("ran", 3, start + 2, "STARTED", fence=3, attempts=1),
        row_1("retried", 4, start + 3, "RETRY", fence=1),
        *[row_1(f"waits-{line}", line, start + line) for line in range(5, 12)],
    ]
    old_database(tmp_path / "state", VERSION_1, rows, {"k-done": "done", "k-ran": "ran"})
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        assert world.registry.epoch == 8
        await keys_still_hold(world, {"k-done": "done", "k-ran": "ran"})
        done, failed, ran = [await world.look(name) for name in ("done", "failed", "ran")]
        assert (done["status"], done["images"]) == ("SUCCESS", [image])
        assert done["completed_at"] == start + 5
        assert (failed["status"], failed["error"], failed["fence"]) == ("FAILURE", ERROR, 2)
        assert (ran["owner"], ran["labels"], ran["attempts"]) == ("ann", labels(), 1)
        assert ran["params"] == params(style_id="style-1", n=2).model_dump()
        new = await world.submit()
        assert await ids(world) == [new, *[row["job_id"] for row in reversed(rows)]]
        assert len(await ids(world, style_id="style-1")) == 6
        await world.until(lambda: "failed_2.png" not in world.files.names())
        order = [await world.draw_next() for _ in range(10)]
        assert order == ["ran", "retried", *[f"waits-{line}" for line in range(5, 12)], new]
        assert world.launcher.launched[0]["fence"] == 4
        assert world.launcher.launched[0]["summary"] == summary_of(params(style_id="style-1", n=2))
        await world.until(lambda: nothing_lives(world))
        await world.die_and_rise()
        assert world.registry.epoch == 9
        assert (await world.look("done"))["images"] == [image]
        assert await world.status("ran") == "SUCCESS"
        assert (await world.registry.delete("done", "ann") or {}).get("gone") == "deleted"


async def test_jobs_of_version_2_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """With their labels, deadlines, ends and tombstones."""
    (tmp_path / "out").mkdir()
    start = int((time.time() - 100) * 1e6)
    files = World(tmp_path).files
    image = files.put("done", 2)
    files.put(
        "done", 1
    )  # by an attempt that lost, before the last sweep: nobody looks for it again
    files.put("failed", 1)  # the same, after the last sweep
    files.put("dead", 1)  # of a job that was deleted after the last sweep
    said = labels(
        client="build", priority="low", tags=["a", "all"], metadata=ODD, retry_of="failed"
    )
    rows = [
        row_2("done", start, "SUCCESS", fence=2, attempts=1, images=[image], ended=5, **said),
        row_2("failed", start + 1, "FAILURE", fence=1, error=ERROR, ended=6, tags=["all"]),
        row_2("revoked", start + 2, "REVOKED", error=ERROR, ended=7),
        row_2("ran", start + 3, "STARTED", fence=3, attempts=1, alone=1, **said),
        row_2("retried", start + 4, "RETRY", fence=1, client="bob", owner="bob", tags=["all"]),
        row_2("waits", start + 5, deadline=time.time() + 3600),
        row_2("late", start + 6, deadline=time.time() - 1),
        row_2("urgent", start + 7, priority="high"),
    ]
    old_database(tmp_path / "state", VERSION_2, rows, {"k-done": "done", "k-waits": "waits"})
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "jobs.db")) as db:
        db.execute("INSERT INTO gone VALUES ('dead', 'ann', 'deleted', 6)")
        db.commit()
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        assert world.registry.epoch == 8
        await keys_still_hold(world, {"k-done": "done", "k-waits": "waits"})
        views = {row["job_id"]: await world.look(row["job_id"]) for row in rows}
        for row in rows:
            view = views[row["job_id"]]
            assert view["params"] == json.loads(row["params"])
            assert (view["created_at"], view["deadline"]) == (row["created_at"], row["deadline"])
            assert (view["owner"], view["attempts"]) == (row["owner"], row["attempts"])
        assert views["done"]["labels"] == views["ran"]["labels"] == said
        assert views["retried"]["labels"] == labels(client="bob", tags=["all"])
        assert views["done"]["images"] == [image]
        assert views["done"]["completed_at"] == rows[0]["completed_at"]
        assert (views["failed"]["error"], views["failed"]["status"]) == (ERROR, "FAILURE")
        assert (views["revoked"]["started_at"], views["revoked"]["status"]) == (None, "REVOKED")
        assert await world.status("dead") == "deleted"
        assert await ids(world, tag="all") == ["ran", "failed", "done"]
        assert await ids(world, tag="a", style_id="style-0") == await ids(
            world, style_id="style-0", tag="a", statuses=["SUCCESS", "STARTED", "RETRY", "PENDING"]
        )
        await world.until(lambda: world.files.names() == ["done_1.png", "done_2.png"])
        await world.ended("late")
        assert await world.code_of("late") == "deadline_exceeded"
        assert world.registry.stats()["deadlines"] == 1
        new = await world.submit()
        order = [await world.draw_next() for _ in range(5)]
        own = [job_id for job_id in order if job_id not in ("ran", "retried")]
        assert own == ["urgent", "waits", new]
        ran = next(t for t in world.launcher.launched if t["job_id"] == "ran")
        assert (ran["fence"], ran["alone"], ran["priority"]) == (4, True, "low")
        assert ran["summary"]["work"] == rows[3]["work"]
        await world.until(lambda: nothing_lives(world))
        await world.registry.delete("done", "ann")
        assert await ids(world, tag="a") == ["ran"]
        await world.die_and_rise()
        assert (await world.look("ran"))["labels"] == said


async def test_jobs_of_version_3_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """It counted no troubles on disk."""
    (tmp_path / "out").mkdir()
    start = int((time.time() - 100) * 1e6)
    image = World(tmp_path).files.put("done", 2)
    rows = [
        row_3("done", start, "SUCCESS", fence=2, attempts=1, images=[image], ended=6),
        row_3("ran", start + 1, "STARTED", fence=3, attempts=1, alone=1),
        row_3("waits", start + 2, tags=["a"], metadata=ODD),
    ]
    old_database(tmp_path / "state", VERSION_3, rows, {"k-waits": "waits"})
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        await keys_still_hold(world, {"k-waits": "waits"})
        views = [await world.look(row["job_id"]) for row in rows]
        assert [view["status"] for view in views] == ["SUCCESS", "RETRY", "PENDING"]
        assert [view["attempts"] for view in views] == [1, 1, 0]
        assert views[0]["images"] == [image]
        assert views[2]["labels"] == labels(tags=["a"], metadata=ODD)
        found = [await world.registry._jobs.find(row["job_id"]) for row in rows]
        assert [job and job.troubles for job in found] == [{}, {"stopped": 1}, {}]
        assert [await world.draw_next() for _ in "ab"] == ["ran", "waits"]
        assert not world.launcher.launched[0]["summary"].get("extra_files")


async def test_jobs_of_version_4_go_on_without_webhooks(tmp_path: Path) -> None:
    """It had no outbox: what is ordered from now on has one."""
    rows = [row_3("waits", int(time.time() * 1e6), tags=["a"])]
    old_database(tmp_path / "state", VERSION_4, rows)
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        hook = Webhook(url="https://build.example/", events=["queued"], root="")
        await world.submit(labelled=labels(webhook=hook))
        assert [await world.draw_next() for _ in "a"] == ["waits"]
        page = await world.registry.deliveries("ann", {}, 10, None)
        assert [found["event"] for found in page["deliveries"]] == ["queued"]


async def test_a_batch_of_version_7_still_calls_whom_it_named(tmp_path: Path) -> None:
    """Once, at its end, by the triggers of today."""
    number = int(time.time() * 1e6)
    old_database(tmp_path / "state", VERSION_7, [row_3("waits", number)])
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "jobs.db")) as db:
        counts = (1, 0, 0, 0, 0, 0, 0)
        batch = (number, "b", "ann", "", 1.0, None, 1, 0, "[]", 0, *counts)
        db.execute(f"INSERT INTO batches VALUES ({', '.join('?' * len(batch))})", batch)
        db.execute(
            f"INSERT INTO batch_rows VALUES ({number}, 1, {number}, 'PENDING', 'k', NULL, 0)"
        )
        db.execute(f"INSERT INTO batch_hooks VALUES ({number}, 'https://build.example/', '', 1)")
        db.commit()
    async with World(tmp_path) as world:
        assert await world.draw_next() == "waits"
        page = await world.registry.deliveries("ann", {}, 10, None)
        assert [(one["batch_id"], one["event"]) for one in page["deliveries"]] == [
            ("b", "completed")
        ]


async def keys_still_hold(world: World, keys: dict[str, str]) -> None:
    for key, job_id in keys.items():
        reply = await world.registry.submit(submission(idempotency_key=key, body_hash="hash"))
        assert (reply["job"]["job_id"], reply["replayed"]) == (job_id, True)
        reply = await world.registry.submit(submission(idempotency_key=key, body_hash="other"))
        assert reply["error"]["code"] == "idempotency_key_reuse"


async def ids(world: World, **wanted: Any) -> list[str]:
    """Of ann's jobs that a list shows."""
    page = await world.registry.page("ann", wanted, 100, None, None)  # pyright: ignore[reportArgumentType]
    return [job["job_id"] for job in page["jobs"]]


async def test_an_upgrade_keeps_the_order_of_a_host_whose_clock_was_put_back(
    tmp_path: Path,
) -> None:
    """The line of version 1 was a count; times that went back must neither reorder nor collide."""
    start = 1_800_000_000.0
    back = [start + 0.000_010, start + 0.000_009, start - 3600, start + 0.000_007, start + 5]
    rows = [row_1(f"{i}", i + 1, moment) for i, moment in enumerate(back)]
    old_database(tmp_path / "state", VERSION_1, rows)
    store = SqliteStore(tmp_path / "state")
    waiting = sorted(await store.live(), key=lambda job: job.number)
    assert [job.job_id for job in waiting] == ["0", "1", "2", "3", "4"]
    assert waiting[0].work == pytest.approx(params(n=2).work)
    assert abs(waiting[0].number / 1e6 - start) < 1
    first = await store.get("0")
    assert first is not None
    assert first.created_at == back[0]
    await store.close()


OLD: list[tuple[str, Callable[[str, int], Row]]] = [
    (VERSION_1, lambda job_id, line: row_1(job_id, line, 100.0)),
    (VERSION_2, row_2),
]


@pytest.mark.parametrize(("version", "row"), OLD)
async def test_an_upgrade_that_is_killed_has_changed_nothing(
    tmp_path: Path, version: str, row: Callable[[str, int], Row]
) -> None:
    """The process dies in the middle of the rows; the next one upgrades them."""
    state = tmp_path / "state"
    old_database(state, version, [row(f"j{line}", line) for line in range(1, 6)])
    before = contents(state)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from serve_app.jobs.store import sqlite, upgrades\n"
        "labels_of, calls = upgrades.labels_of, []\n"
        "def die(*args):\n"
        "    calls.append(args)\n"
        "    if len(calls) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return labels_of(*args)\n"
        "upgrades.labels_of = die\n"
        "sqlite.SqliteStore(Path(sys.argv[1]))"
    )
    dying = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(state))
    assert await dying.wait() == -signal.SIGKILL
    assert contents(state) == before
    store = SqliteStore(state, lock_timeout_s=0)
    assert [job.job_id for job in await store.live()] == [f"j{line}" for line in range(1, 6)]
    await store.close()


async def test_the_database_before_an_upgrade_stays_beside_it(tmp_path: Path) -> None:
    """The way back to older code. A store that is up to date is not copied."""
    state = tmp_path / "state"
    old_database(state, VERSION_4, [row_3("a", 1)], {})
    before = contents(state)
    (state / ".jobs-schema-4.db.part").write_bytes(b"of a start that was killed")
    for _ in range(2):
        await SqliteStore(state).close()
    copy = state / "jobs-schema-4.db"
    names = {name for name in os.listdir(state) if "jobs" in name}  # noqa: PTH208 - of an async test
    assert names == {"jobs.db", copy.name}
    assert copy.stat().st_mode & 0o777 == 0o600
    copy.replace(state / "jobs.db")
    assert contents(state) == before


async def test_an_older_store_is_upgraded_in_redis_too(tmp_path: Path) -> None:
    """Where it came by `assets store copy`; the copy of what it was is a file."""
    old_database(tmp_path / "old", VERSION_4, [row_3("a", 1)], {})
    before = contents(tmp_path / "old")
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:
        there = RedisEnd(server.url, "assets", vouched=False)
        copy(FileEnd(tmp_path / "old"), there, lambda firsts, _: firsts)
        for _ in range(2):
            store = SqliteStore(RedisKeeper(server.url, tmp_path / "state"))
            assert [job.job_id for job in await store.live()] == ["a"]
            await store.close()
    shutil.move(tmp_path / "state" / "jobs-schema-4.db", tmp_path / "state" / "jobs.db")
    assert contents(tmp_path / "state") == before


@pytest.mark.parametrize(("version", "row"), [*OLD, (VERSION_3, row_3), (VERSION_7, row_3)])
async def test_jobs_of_an_older_store_are_found_by_their_words(
    tmp_path: Path, version: str, row: Callable[[str, int], Row]
) -> None:
    state = tmp_path / "state"
    order = params(subject="Crimson potion").model_dump()
    old_database(state, version, [{**row("a", 1), "params": json.dumps(order)}, row("b", 2)])
    for _ in range(2):  # the second start finds today's version
        store = SqliteStore(state, lock_timeout_s=0)
        page = await store.page("ann", {"words": ["crim"]}, limit=9, before=None, after=None)
        assert [job.job_id for job in page.jobs] == ["a"]
        page = await store.page("ann", {"words": ["red"]}, limit=9, before=None, after=None)
        assert [job.job_id for job in page.jobs] == ["b"]
        await store.close()


@pytest.mark.parametrize(
    ("version", "row"), [*OLD, (VERSION_3, row_3), (VERSION_4, row_3), (VERSION_7, row_3)]
)
async def test_an_upgraded_database_has_the_tables_of_a_new_one(
    tmp_path: Path, version: str, row: Callable[[str, int], Row]
) -> None:
    old_database(tmp_path / "old", version, [row("a", 1)], {"k": "a"})
    (tmp_path / "new").mkdir()
    shapes: list[list[tuple[Any, ...]]] = []
    for name in ("old", "new"):
        for _ in range(2):
            await SqliteStore(tmp_path / name).close()
        with contextlib.closing(sqlite3.connect(tmp_path / name / "jobs.db")) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            made = "SELECT type, name, tbl_name FROM sqlite_master ORDER BY type, name"
            columns = (
                "SELECT m.name, c.* FROM sqlite_master m, pragma_table_info(m.name) c ORDER BY 1, 2"
            )
            shapes.append(db.execute(made).fetchall() + db.execute(columns).fetchall())
    assert shapes[0] == shapes[1]
