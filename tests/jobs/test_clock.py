"""Time never goes back, whatever the host's clock does, and numbers only grow."""

from __future__ import annotations

import time as real_time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serve_app.jobs.clock import Clock

from .harness import World, nothing_lives


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
    monkeypatch.setattr("serve_app.jobs.intake.time", wall)
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
