"""Jobs are rows first: memory holds the newest few, and who may change a job is decided by its fence."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs.cache import JobCache
from serve_app.jobs.job import Status
from serve_app.jobs.repository import JobRepository
from serve_app.jobs.store.sqlite import SqliteStore
from tests import factories

from .harness import World, insert, nothing_lives

JOB = factories.job(job_id="a", number=1)


@pytest.fixture(name="jobs")
async def _jobs(tmp_path: Path) -> AsyncGenerator[JobRepository]:
    """With one job, which is a row and not in memory."""
    store = SqliteStore(tmp_path)
    await insert(store, JOB)
    yield JobRepository(store, JobCache(10))
    await store.close()


async def test_a_job_is_found_in_memory_or_by_its_row(jobs: JobRepository) -> None:
    assert await jobs.find("a") == JOB
    held = jobs.remember(JOB.evolve(progress={"step": 1}))
    assert await jobs.find("a") is held
    assert await jobs.find("unknown") is None


async def test_only_the_attempt_that_is_driven_holds_a_job(jobs: JobRepository) -> None:
    """Not one that was, not one that will be, and none when the job has ended."""
    jobs.in_flight["a"] = 2
    held = jobs.remember(JOB.evolve(fence=2))
    assert jobs.held_by("a", 2) is held
    assert jobs.held_by("a", 1) is None
    assert jobs.held_by("a", 3) is None
    jobs.in_flight["a"] = 3  # the next one is on its way to the disk
    assert jobs.held_by("a", 2) is None
    assert jobs.held_by("a", 3) is None
    jobs.in_flight["a"] = 2
    jobs.remember(held.evolve(status=Status.REVOKED))
    assert jobs.held_by("a", 2) is None


async def test_what_is_saved_is_in_the_row_and_in_memory(jobs: JobRepository) -> None:
    jobs.in_flight["a"] = 1
    begun = JOB.evolve(fence=1)
    assert await jobs.save(begun, 0)
    assert await jobs.store.get("a") == begun
    assert jobs.cache.running["a"] == begun.evolve(seq=1)


async def test_what_the_row_refuses_changes_nothing(jobs: JobRepository) -> None:
    assert not await jobs.save(JOB.evolve(fence=5), 4)
    assert await jobs.store.get("a") == JOB
    assert (jobs.cache.get("a"), jobs.cache.seq) == (None, 0)


async def test_a_disk_that_fails_changes_nothing_in_memory(
    jobs: JobRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any, **__: Any) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(jobs.store, "update", full)
    with pytest.raises(sqlite3.OperationalError):
        await jobs.save(JOB.evolve(fence=1), 0)
    assert jobs.cache.seq == 0


async def test_a_save_that_comes_back_late_takes_nothing_back(jobs: JobRepository) -> None:
    """Two saves at once: memory keeps what the row kept, the later one."""
    jobs.in_flight["a"] = 1
    assert await jobs.save(JOB.evolve(fence=1), 0)
    ended = jobs.remember(JOB.evolve(fence=1, status=Status.REVOKED))
    assert await jobs.save(JOB.evolve(fence=1, status=Status.STARTED), 1)
    assert jobs.cache.get("a") is ended


async def test_memory_is_a_bounded_cache_over_the_store(tmp_path: Path) -> None:
    async with World(tmp_path, {"cached_jobs": 5}) as world:
        jobs = [await world.submit() for _ in range(40)]
        for job_id in jobs:
            await world.draw(job_id)
        await world.idle()
        stats = world.registry.stats()
        assert (stats["live"], stats["cached"], stats["losses"]) == (0, 5, 0)
        assert stats["changes"] <= 64 + 2 * 5
        assert await world.status(jobs[0]) == "SUCCESS"


async def test_jobs_that_wait_are_rows_and_not_memory(tmp_path: Path) -> None:
    """Forty wait, five are remembered, all of them end."""
    async with World(tmp_path, {"cached_jobs": 5, "max_in_flight": 3}) as world:
        jobs = [await world.submit(cancel_after_s=600) for _ in range(40)]
        for job_id in jobs:
            stats = world.registry.stats()
            assert stats["cached"] <= 5
            assert stats["changes"] <= 64 + 2 * (5 + 3)
            await world.draw(job_id)
        await world.until(lambda: nothing_lives(world))
        assert [await world.status(job_id) for job_id in jobs] == ["SUCCESS"] * 40
        assert len(world.files.names()) == 40
