"""Jobs are rows first: memory holds the newest few, and who may change a job is decided by its fence."""

from __future__ import annotations

from pathlib import Path

from .harness import World, nothing_lives


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
