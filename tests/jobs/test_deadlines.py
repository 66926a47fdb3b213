"""Deadlines ring once, survive a restart, and leave jobs alone that ended before."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

from serve_app.jobs.deadlines import Deadlines

from .harness import World


async def test_deadlines_ring_once_each_and_in_their_order() -> None:
    """One that has passed rings at once, a forgotten one never, a new one replaces the old one."""
    rung: list[str] = []
    last = asyncio.Event()

    def passed(job_id: str) -> None:
        rung.append(job_id)
        if job_id == "last":
            last.set()

    deadlines = Deadlines(passed)
    deadlines.set("forgotten", 0.0)
    deadlines.set("last", 0.02)
    deadlines.set("first", -5.0)
    deadlines.set("moved", 0.0)
    deadlines.set("moved", 60.0)
    deadlines.forget("forgotten")
    deadlines.forget("unknown")
    assert len(deadlines) == 3
    assert rung == [], "never inside of the call that sets it"
    await asyncio.wait_for(last.wait(), 5)
    assert rung == ["first", "last"]
    assert len(deadlines) == 1
    deadlines.close()
    assert len(deadlines) == 0


async def test_a_deadline_that_passes_while_nothing_runs_is_kept_at_the_next_start(
    tmp_path: Path,
) -> None:
    async with World(tmp_path) as world:
        early, late, kept = [await world.submit(cancel_after_s=60) for _ in range(3)]
        await world.draw(kept)
        await world.die()
        with contextlib.closing(sqlite3.connect(tmp_path / "state" / "jobs.db")) as db:
            db.execute("UPDATE jobs SET deadline = created_at WHERE job_id != ?", (late,))
            db.commit()
        await world.rise()
        await world.ended(early)
        assert await world.code_of(early) == "deadline_exceeded"
        assert await world.status(kept) == "SUCCESS"
        assert world.registry.stats()["deadlines"] == 1
        await world.draw(late, 2)
        assert world.registry.stats()["deadlines"] == 0


async def test_a_job_in_time_is_not_touched_by_its_deadline(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit(cancel_after_s=3600)
        assert world.registry.stats()["deadlines"] == 1
        await world.draw(job_id)
        assert world.registry.stats()["deadlines"] == 0
        other = await world.submit(cancel_after_s=3600)
        await world.registry.cancel(other, "ann")
        assert world.registry.stats()["deadlines"] == 0
        assert await world.code_of(other) == "cancelled"
