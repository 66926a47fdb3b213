"""The registry holds no more jobs when its store grows. `tests/benchmarks/bench_registry.py` measures how
fast it is then."""

from __future__ import annotations

import gc
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from serve_app.jobs.job import Job, Status
from serve_app.jobs.store.schema import LIVE
from serve_app.jobs.store.sqlite import SqliteStore
from tests.benchmarks.fill_store import fill

from .harness import World
from .store.test_schema import FILTERS, OWNER

FINISHED, QUEUED, CACHED = 3000, 1000, 50


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
