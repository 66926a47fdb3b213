"""A registry that cannot start yet starts as soon as it can."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from serve_app.errors import StoreHeld
from serve_app.jobs import startup
from serve_app.jobs.registry import JobRegistry
from serve_app.jobs.startup import open_registry
from serve_app.jobs.store.sqlite import SqliteStore

from .harness import LIMITS, Folder, ManualLauncher, NoMetrics, World


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "PAUSE_S", (0.01, 0.02))


def parts(
    tmp_path: Path,
) -> tuple[Callable[[], SqliteStore], Callable[[SqliteStore], JobRegistry], asyncio.Event]:
    """What `open_registry` needs, and an event that is set when the store was refused once."""
    refused, loop = asyncio.Event(), asyncio.get_running_loop()

    def open_store() -> SqliteStore:
        try:
            return SqliteStore(tmp_path / "state", lock_timeout_s=0)
        except (StoreHeld, OSError):
            loop.call_soon_threadsafe(refused.set)
            raise

    def registry_on(store: SqliteStore) -> JobRegistry:
        return JobRegistry(store, ManualLauncher(), Folder(tmp_path / "out"), NoMetrics(), LIMITS)

    return open_store, registry_on, refused


async def test_a_predecessor_that_is_slow_to_die_is_waited_for(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        open_store, registry_on, refused = parts(tmp_path)
        starting = asyncio.create_task(open_registry(open_store, registry_on))
        async with asyncio.timeout(10):
            await refused.wait()
        assert not starting.done()
        epoch = world.registry.epoch
        await world.registry.close()
        registry = await asyncio.wait_for(starting, 10)
    try:
        assert registry.epoch > epoch
        assert await registry.get(job_id)
    finally:
        await registry.close()


async def test_a_disk_that_comes_back_is_used(tmp_path: Path) -> None:
    """A file stands where the state's folder must be: root may write everywhere else."""
    (tmp_path / "state").write_text("in the way")
    open_store, registry_on, refused = parts(tmp_path)
    starting = asyncio.create_task(open_registry(open_store, registry_on))
    async with asyncio.timeout(10):
        await refused.wait()
    (tmp_path / "state").unlink()
    await (await asyncio.wait_for(starting, 10)).close()


async def test_a_start_that_fails_half_way_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves the lock free for itself."""
    open_store, registry_on, _ = parts(tmp_path)
    live, failures = SqliteStore.live, [sqlite3.OperationalError("disk is full")] * 2

    async def fail_twice(store: SqliteStore) -> object:
        if failures:
            raise failures.pop()
        return await live(store)

    monkeypatch.setattr(SqliteStore, "live", fail_twice)
    registry = await asyncio.wait_for(open_registry(open_store, registry_on, open_store()), 10)
    assert not failures
    assert registry.epoch == 3
    await registry.close()
