"""The registry stays as it is when its store grows: no query reads all rows, memory holds no more jobs.
How fast it is then, `tests/benchmarks/bench_registry.py` measures."""

from __future__ import annotations

import functools
import gc
import inspect
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs.job import Job, Status
from serve_app.jobs.store.schema import LIVE
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import JobFilter
from tests.benchmarks.fill_store import fill

from .harness import PARAMS, World

FINISHED, QUEUED, CACHED = 3000, 1000, 50
OWNER = "studio-0"
FILTERS: list[JobFilter] = [
    {},
    {"statuses": ["SUCCESS"]},
    {"statuses": ["FAILURE", "REVOKED"]},
    {"statuses": [status.value for status in Status]},
    {"style_id": "icon"},
    {"style_id": "icon", "statuses": ["FAILURE", "REVOKED"]},
    {"tag": "level-0"},
    {"tag": "level-0", "statuses": ["FAILURE"], "style_id": "icon"},
    {"created_after": 1.0, "created_before": 4e9},
    {"created_after": 1.0, "tag": "level-0"},
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("filled")
    fill(directory, finished=FINISHED, queued=QUEUED)
    return directory


@pytest.fixture
def directory(filled: Path, tmp_path: Path) -> Path:
    """A copy of the filled store, below `state` as the harness has it."""
    shutil.copytree(filled, tmp_path / "state")
    return tmp_path


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
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each finds its rows in an index, and in the order that is asked for."""
    plans: dict[str, list[str]] = {}
    explained = type("Recorded", (Explained,), {"plans": plans})
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=explained))
    store = SqliteStore(directory / "state")
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
    job = Job("new", OWNER, PARAMS, time.time(), await store.last_number() + 1, tags=("a",))
    ended = job.evolve(status=Status.SUCCESS, completed_at=time.time())
    insert = functools.partial(store.insert, key="k", body_hash="h", key_expires_before=0.0)
    calls: list[tuple[Callable[..., Awaitable[Any]], tuple[Any, ...], dict[str, Any]]] = [
        (store.last_number, (), {}),
        (insert, (job,), {}),
        (insert, (job,), {}),
        (insert, (job.evolve(job_id="full"),), {"key": None, "only_replay": True}),
        (store.get, ("new",), {}),
        (store.update, (ended,), {"expected_fence": 0}),
        (store.bury, ([ended], "deleted"), {}),
        (store.tombstone, ("new",), {}),
        (store.take_over, (), {}),
        (store.littering, (), {}),
        (store.swept, (), {}),
        (store.recent, (10,), {}),
        (store.ended_before, (time.time(), 10), {}),
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
    return "TEMP B-TREE" in step or (step.startswith("SCAN") and step != "SCAN CONSTANT ROW")


async def test_the_check_above_finds_a_query_that_scans(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "state" / "jobs.db")) as db:
        plan = db.execute("EXPLAIN QUERY PLAN SELECT * FROM jobs ORDER BY params").fetchall()
    assert [is_slow(row[3]) for row in plan] == [True, True]


async def test_a_restarted_registry_holds_no_more_jobs_than_it_may(directory: Path) -> None:
    """Of what waits it keeps a line of its own; whatever is looked at is read and let go."""
    held = jobs_in_memory()
    async with World(directory, {"cached_jobs": CACHED, "max_in_flight": 1}) as world:
        for wanted in FILTERS:
            await world.registry.page(OWNER, wanted, 500, None, None)
        with closing(sqlite3.connect(directory / "state" / "jobs.db")) as db:
            for (job_id,) in db.execute(f"SELECT job_id FROM jobs WHERE {LIVE} LIMIT 200"):
                assert (await world.look(job_id))["queue_position"]
        stats = world.registry.stats()
        assert stats["live"] == QUEUED
        assert stats["cached"] == CACHED
        # Whoever drives an attempt holds the states it went through, too.
        assert jobs_in_memory() - held <= CACHED + 5 * stats["in_flight"]


def jobs_in_memory() -> int:
    gc.collect()
    # Not `isinstance`: it asks each object for its `__class__`, and torch has some that warn then.
    return sum(type(held) is Job for held in gc.get_objects())


async def test_a_filled_store_is_one_that_the_registry_wrote(filled: Path, directory: Path) -> None:
    """Going through all pages of all owners, every job is there once, in the state it was given."""
    with closing(sqlite3.connect(filled / "jobs.db")) as db:
        expected = sorted(db.execute("SELECT job_id, status FROM jobs"))
        owners = [row[0] for row in db.execute("SELECT DISTINCT owner FROM jobs")]
    store = SqliteStore(directory / "state")
    found: list[tuple[str, str]] = []
    for owner in owners:
        before = None
        while True:
            rows = await store.page(owner, {}, limit=200, before=before, after=None)
            found += [(job.job_id, job.status.value) for job in rows.jobs]
            if (before := rows.more) is None:
                break
    await store.close()
    assert sorted(found) == expected
    live = [status for _, status in expected if not Status(status).terminal]
    assert (len(expected) - len(live), len(live)) == (FINISHED, QUEUED)


def test_an_existing_store_is_not_filled_again(filled: Path) -> None:
    with pytest.raises(FileExistsError):
        fill(filled, finished=1, queued=0)
