"""The tables are those that queries need: each query finds its rows in an index, in the order asked for."""

from __future__ import annotations

import functools
import inspect
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs.job import Status
from serve_app.jobs.store.schema import COLUMNS, LIVE
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import JobFilter
from tests.factories import job, labels

OWNER = "studio-0"
FILTERS: list[JobFilter] = [
    {},
    {"statuses": ["SUCCESS"]},
    {"statuses": ["FAILURE", "REVOKED"]},
    {"statuses": [status.value for status in Status]},
    {"style_id": "icon"},
    {"style_id": "icon", "statuses": ["FAILURE", "REVOKED"]},
    {"model": "tiny"},
    {"model": "tiny", "statuses": ["SUCCESS", "FAILURE"], "style_id": "icon"},
    {"tag": "level-0"},
    {"tag": "level-0", "statuses": ["FAILURE"], "style_id": "icon"},
    {"created_after": 1.0, "created_before": 4e9},
    {"created_after": 1.0, "tag": "level-0"},
    {"words": ["red", "po"]},
    {"words": ["red"], "tag": "level-0", "batch_id": "b", "statuses": ["SUCCESS"], "starred": True},
    {"starred": True},
    {"rating": 3, "rejected": False, "batch_id": "b"},
    {"rejected": False},
]


async def test_the_columns_are_those_of_the_table(tmp_path: Path) -> None:
    """In their order, so that whoever reads the one knows the other."""
    await SqliteStore(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        names = [row[0] for row in db.execute("SELECT name FROM pragma_table_info('jobs')")]
    assert tuple(names) == COLUMNS


def test_live_is_what_is_not_terminal() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE jobs (status TEXT)")
        db.executemany("INSERT INTO jobs VALUES (?)", [(status.value,) for status in Status])
        live = {row[0] for row in db.execute(f"SELECT status FROM jobs WHERE {LIVE}")}
    assert live == {status.value for status in Status if not status.terminal}


class Explained(sqlite3.Connection):
    """A connection that keeps the plan of every statement it runs."""

    plans: dict[str, list[str]]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self._explain(sql, parameters)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        rows = list(parameters)
        for row in rows[:1]:
            self._explain(sql, row)
        return super().executemany(sql, rows)

    def _explain(self, sql: str, parameters: Any) -> None:
        if sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
            plan = super().execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
            self.plans[sql] = [row[3] for row in plan]


async def test_no_query_of_the_store_scans_or_sorts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite chooses a plan by the tables and not by what is in them: nobody runs ANALYZE."""
    plans: dict[str, list[str]] = {}
    explained = type("Recorded", (Explained,), {"plans": plans})
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=explained))
    store = SqliteStore(tmp_path)
    called = await call_everything(store)
    await store.close()
    assert called == {
        name
        for name, method in vars(SqliteStore).items()
        if inspect.iscoroutinefunction(method) and not name.startswith("_") and name != "close"
    }
    assert any("FROM tags" in sql for sql in plans)
    slow = {sql: plan for sql, plan in plans.items() if any(map(is_slow, plan))}
    assert not slow


async def call_everything(store: SqliteStore) -> set[str]:
    """Every method that asks the database something; their names."""
    new = job(labelled=labels(tags=["a"]), job_id="new", owner=OWNER)
    ended = new.evolve(status=Status.SUCCESS, completed_at=time.time())
    insert = functools.partial(store.insert, key="k", body_hash="h", key_expires_before=0.0)
    calls: list[tuple[Callable[..., Awaitable[Any]], tuple[Any, ...], dict[str, Any]]] = [
        (store.last_number, (), {}),
        (store.of_key, (OWNER, "k", "h"), {}),
        (insert, (new,), {}),
        (insert, (new,), {}),
        (insert, (new.evolve(job_id="full"),), {"key": None, "refused": lambda: "queue_full"}),
        (store.get, ("new",), {}),
        (store.update, (ended,), {"expected_fence": 0}),
        (store.relabel, ("new", {"tags": ["b"], "marks": {"0": {"starred": True}}}), {}),
        (store.bury, ([ended], "deleted", time.time()), {}),
        (store.forget_gone, (time.time(), 10), {}),
        (store.tombstone, ("new",), {}),
        (store.live, (), {}),
        (store.started, (), {}),
        (store.numbered, ([1, 2],), {}),
        (store.spend, (OWNER, 1.0, time.time()), {}),
        (store.used_by, (OWNER, time.time()), {}),
        (store.littering, (), {}),
        (store.swept, (), {}),
        (store.recent, (10,), {}),
        (store.ended_before, (time.time(), 10), {}),
        (store.uploads_in_use, (), {}),
        (store.oldest_waiting, (), {}),
    ]
    calls += [
        (store.page, (OWNER, wanted), {"limit": 10, "before": before, "after": after})
        for wanted in FILTERS
        for before, after in ((None, None), (2**61, None), (None, 1))
    ]
    for method, args, kwargs in calls:
        await method(*args, **kwargs)
    return {
        (m.func if isinstance(m, functools.partial) else m).__name__  # type: ignore[attr-defined]
        for m, _, _ in calls
    }


def is_slow(step: str) -> bool:
    """To walk over the JSON of one row, as a virtual table, is no scan of a table."""
    scans = step.startswith("SCAN") and step != "SCAN CONSTANT ROW" and "VIRTUAL" not in step
    return "TEMP B-TREE" in step or scans


async def test_the_check_above_finds_a_query_that_scans(tmp_path: Path) -> None:
    await SqliteStore(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        plan = db.execute("EXPLAIN QUERY PLAN SELECT * FROM jobs ORDER BY params").fetchall()
    assert [is_slow(row[3]) for row in plan] == [True, True]
