"""When nothing is launched, why, and what makes it go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .harness import RELEASED, SETTLED, World


async def test_without_a_renderer_dispatch_pauses_and_the_job_says_so(
    tmp_path: Path,
) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        first, second = await world.submit(), await world.submit()
        await world.launched(first)
        world.launcher.end(first, 1, RELEASED)
        await world.until(lambda: world.registry.stats()["paused"] == "renderer")
        reply = await world.registry.watch(world.registry.epoch, 0, 0)
        assert reply["paused"] == "renderer"
        await world.launched(first, 2)  # by itself, after the pause
        assert await world.status(first) == "PENDING"
        assert await world.draw(first, 2)
        await world.draw(second)


async def test_without_an_application_nothing_is_launched(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.lose_ingress()
        job_id = await world.submit()
        await asyncio.wait_for(_paused(world, "application"), 5)
        assert not world.launcher.launched
        await world.see_ingress()
        await world.launched(job_id)


async def _paused(world: World, reason: str) -> None:
    while world.registry.stats()["paused"] != reason:
        await asyncio.wait({asyncio.create_task(world.registry.get("x"))})


async def test_a_waiting_job_says_what_it_waits_for(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        first, second, third = [await world.submit() for _ in range(3)]
        await world.launched(first)

        async def said() -> list[tuple[str | None, int | None]]:
            views = [await world.look(job_id) for job_id in (first, second, third)]
            return [(view["waiting_for"], view["queue_position"]) for view in views]

        assert await said() == [("replica", 1), ("turn", 2), ("turn", 3)]
        world.registry.loading()
        assert await said() == [("model", 1), ("turn", 2), ("turn", 3)]
        await world.registry.admitted(first, 1)
        assert await said() == [(None, None), ("turn", 1), ("turn", 2)]
        assert await world.registry.finish(first, 1, [])
        world.launcher.end(first, 1, SETTLED)
        await world.launched(second)
        assert await said() == [(None, None), ("replica", 1), ("turn", 2)]
        world.launcher.end(second, 1, RELEASED)
        await world.until(lambda: world.registry.stats()["paused"])
        assert await said() == [(None, None), ("renderer", 1), ("renderer", 2)]
        world.lose_ingress()
        assert await said() == [(None, None), ("application", 1), ("application", 2)]
