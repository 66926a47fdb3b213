"""Batches in the store: whole or not at all, whatever is killed; counts that are always those of the rows."""

from __future__ import annotations

import functools
import inspect
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from serve_app.jobs.job import MOVES, Job, Status
from serve_app.jobs.store.batch_tables import BATCH_COLUMNS, COUNTS, ROW_COLUMNS, STATUSES
from serve_app.jobs.store.batches import LOST, StoredBatches
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.jobs.store.stored_batch import InsertedBatch, NewRow, StoredBatch
from tests.factories import job, labels, new_id, params
from tests.jobs.harness import ERROR
from tests.jobs.store.opens import Opens
from tests.jobs.store.test_schema import Explained, is_slow


def new_rows(*keys: str, number: int | None = None) -> list[NewRow]:
    first = number or time.time_ns() // 1000
    made = [
        job(
            params(seed=i),
            labels(tags=["a"]),
            job_id=new_id(),
            number=first + i,
            created_at=(first + i) / 1e6,
        )
        for i, _ in enumerate(keys)
    ]
    return [
        NewRow(one, json.dumps(one.params), key.encode(), None)
        for one, key in zip(made, keys, strict=True)
    ]


async def insert(store: SqliteStore, rows: list[NewRow], **changes: object) -> InsertedBatch:
    given = {"reuse": True, "key": None, "body_hash": "", "key_expires_before": 0.0, **changes}
    stands = await store.batches.insert(new_id(), "ann", "potions", rows, **given)  # type: ignore[arg-type]
    assert not isinstance(stands, str)
    return stands


async def every_batch(store: SqliteStore) -> list[StoredBatch]:
    return (await store.batches.page("ann", {}, limit=10, before=None, after=None)).batches


async def test_the_columns_are_those_of_the_tables(tmp_path: Path) -> None:
    await SqliteStore(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        for table, columns in ("batches", BATCH_COLUMNS), ("batch_rows", ROW_COLUMNS):
            found = db.execute(f"SELECT name FROM pragma_table_info('{table}')")
            assert tuple(row[0] for row in found) == columns
    assert set(STATUSES) == {status.value for status in Status} | {"DELETED"}


async def test_the_counts_are_those_of_the_rows_whatever_happens(
    open_store: Opens,
) -> None:
    """Jobs move as they may, are deleted, are reused by other batches, left to them and ordered again."""
    chance = random.Random(8)
    store = open_store()
    jobs: dict[str, Job] = {}
    for _ in range(4):
        keys = [f"k{chance.randrange(5)}-{n}" for n in range(20)]
        for fresh in (await insert(store, new_rows(*keys))).fresh:
            jobs[fresh.job_id] = fresh
    numbers = [b.number for b in (await every_batch(store))]
    for _ in range(600):
        if chance.random() < 0.01:
            ended = await store.batches.revoke(chance.choice(numbers), time.time(), ERROR)
            jobs |= {one.job_id: one for one in await store.numbered([*ended.values()])}
        if chance.random() < 0.02:
            batch = chance.choice(numbers)
            lost = [row for row in await store.batches.rows(batch, 0, 100, LOST) if row.job]
            again = [(row.row, row.job.job_id, new_rows("x")[0]) for row in lost[:3] if row.job]
            ordered = await store.batches.order_again(batch, again)
            jobs |= {new.job_id: new for new in ordered if not isinstance(new, str)}
        one = jobs[chance.choice([*jobs])]
        if one.status.terminal:
            if chance.random() < 0.04 and len(jobs) > 9:
                await store.bury([one], "deleted", time.time())
                del jobs[one.job_id]
            continue
        status = chance.choice(sorted(MOVES[one.status]))
        moved = one.evolve(status=status, completed_at=time.time() if status.terminal else None)
        assert await store.update(moved, expected_fence=0)
        jobs[one.job_id] = moved
    found = await every_batch(store)
    with closing(sqlite3.connect(store._database.path)) as db:
        for batch in found:
            rows = db.execute(
                "SELECT CASE WHEN job_id IS NULL THEN 'DELETED' WHEN reused >= 2 THEN 'REVOKED'"
                " ELSE jobs.status END, batch_rows.status FROM batch_rows"
                " LEFT JOIN jobs ON jobs.number = batch_rows.job WHERE batch = ?",
                (batch.number,),
            ).fetchall()
            walked = Counter(now for now, _ in rows)
            assert batch.counts == {status: walked[status] for status in STATUSES}
            assert all(now == kept for now, kept in rows)
            live = any(walked[status] for status in ("PENDING", "STARTED", "RETRY"))
            assert (batch.completed_at is None) == live
        left = {s for (s,) in db.execute("SELECT status FROM batch_rows WHERE reused >= 2")}
        assert left == {"REVOKED", "DELETED"}
    await store.close()
    assert len(found) == 4


async def test_no_query_of_batches_scans_or_sorts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: dict[str, list[str]] = {}
    explained = type("Recorded", (Explained,), {"plans": plans})
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=explained))
    store = SqliteStore(tmp_path)
    batches = store.batches
    first = await insert(store, new_rows("a", "b"), key="k")
    lost = first.fresh[0].evolve(status=Status.FAILURE, completed_at=time.time())
    await store.update(lost, expected_fence=0)
    batch = await batches.get(first.batch_id)
    assert batch is not None
    await batches.plan("ann", "potions", [b"a", b"b"])
    for wanted in ({}, {"name": "potions"}, {"statuses": ["STARTED"]}):
        for before, after in ((None, None), (2**61, None), (None, 1)):
            await batches.page("ann", wanted, limit=3, before=before, after=after)  # type: ignore[arg-type]
    await batches.rows(batch.number, 0, 10)
    await batches.rows(batch.number, 0, 10, ["FAILURE", "REVOKED"])
    await batches.last_live(batch.number)
    await batches.of_key("ann", "k", "", 0.0)
    shared = await insert(store, new_rows("b"))
    assert shared.fresh == []
    assert await batches.revoke(batch.number, time.time(), ERROR) == {}
    again = await batches.order_again(batch.number, [(1, lost.job_id, new_rows("a")[0])])
    assert len(again) == 1
    second = await insert(store, new_rows("x"))
    await batches.take_back(second.batch_id, second.fresh, time.time())
    await store.page("ann", {"batch_id": first.batch_id}, limit=3, before=None, after=None)
    await store.bury([lost], "deleted", time.time())
    await store.close()
    methods = {n for n, m in vars(StoredBatches).items() if inspect.iscoroutinefunction(m)}
    assert methods == {
        *("insert", "order_again", "revoke", "take_back"),
        *("of_key", "get", "plan", "page", "rows", "last_live"),
    }
    # Rows of several statuses are as many walks; they are merged in Python.
    slow = {sql: plan for sql, plan in plans.items() if any(map(is_slow, plan))}
    assert not slow


WRITER = """
import asyncio, os, signal, sys
from pathlib import Path
from serve_app.jobs.store import batches
from tests.jobs.store.opens import Opens
from tests.jobs.store.test_batches import insert, new_rows

die_at, real, written = int(sys.argv[2]), batches.to_row, 0

def to_row(job, params, *labels):
    global written
    written += 1
    if written == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(job, params, *labels)

batches.to_row = to_row

async def write():
    store = Opens(Path(sys.argv[1]), *sys.argv[3:])()
    while True:
        stands = await insert(store, new_rows(*map(str, range(400))), reuse=False)
        print(stands.batch_id, flush=True)

asyncio.run(write())
"""


def killed_writer(where: Opens, *, die_at: int = 0, after: int = 10**9) -> list[str]:
    """Ids of the batches that were accepted by a process that was killed with SIGKILL: by itself at the
    `die_at`th row of a job, or by us when it has told of `after` batches."""
    args = [where.folder, str(die_at), where.url, where.prefix]
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, *args], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    accepted: list[str] = []
    for line in writer.stdout:
        accepted.append(line.strip())
        if len(accepted) == after:
            writer.send_signal(signal.SIGKILL)
            break
    accepted += [line.strip() for line in writer.stdout if line.endswith("\n")]
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    return accepted


@pytest.mark.parametrize("how", [{"die_at": 1}, {"die_at": 399}, {"die_at": 600}, {"after": 3}])
async def test_a_batch_is_there_whole_or_not_at_all(open_store: Opens, how: dict[str, int]) -> None:
    """SIGKILL in the middle of its rows, and while the next one is written. What was accepted is there."""
    accepted = killed_writer(open_store, **how)
    store = open_store()
    page = await store.batches.page("ann", {}, limit=100, before=None, after=None)
    live = len(await store.live())
    with closing(sqlite3.connect(store._database.path)) as db:
        (rows,) = db.execute("SELECT COUNT(*) FROM batch_rows").fetchone()
    await store.close()
    assert set(accepted) <= {batch.batch_id for batch in page.batches}
    assert len(page.batches) <= len(accepted) + 1
    assert live == 400 * len(page.batches), "no job without its batch, no batch without its jobs"
    assert rows == live
    assert all(batch.counts["PENDING"] == batch.size == 400 for batch in page.batches)
    assert len(COUNTS) == 7
