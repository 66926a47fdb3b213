"""Jobs whose Ray task does all the work: slots of their own, and every promise of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve_app.messages import StoredFile
from serve_app.params import DEFAULT_POOL
from tests.factories import image_file, without_renderer

from .harness import RELEASED, STOPPED, World, nothing_lives


async def submit(world: World, **changes: Any) -> str:
    reply = await world.registry.submit(without_renderer(**changes))
    assert "job" in reply, reply
    assert reply["job"]["summary"]["kind"] == "derive"
    return reply["job"]["job_id"]


async def work(world: World, job_id: str, fence: int, stage: str = "finishing") -> None:
    """The attempt's task starts, and says how far it is."""
    await world.started(job_id, fence)
    assert await world.progress(job_id, fence, {"stage": stage, "value": 0.5})


async def test_they_have_slots_of_their_own(tmp_path: Path) -> None:
    """Neither kind waits for the other's."""
    async with World(tmp_path, {"max_in_flight": 1, "cpu_slots": 2}) as world:
        drawn = [await world.submit() for _ in range(2)]
        made = [await submit(world) for _ in range(3)]
        for job_id in (drawn[0], *made[:2]):
            await world.launched(job_id)
        assert world.registry.stats()["in_flight"] == 3
        assert (await world.look(drawn[1]))[
            "queue_position"
        ] == 2  # behind the one that is launched
        assert (await world.look(made[2]))["queue_position"] == 3  # behind those two
        await world.draw(made[1])
        await world.launched(made[2])
        assert not world.launcher.runs(drawn[1])
        await world.draw(drawn[0])
        await world.launched(drawn[1])
        for job_id in (made[0], made[2], drawn[1]):
            await world.draw(job_id)
        await world.until(lambda: nothing_lives(world))


async def test_no_renderer_is_needed_or_asked(tmp_path: Path) -> None:
    """While none is there they go on; a lost attempt is told to no engine."""
    async with World(tmp_path) as world:
        await world.until(lambda: world.launcher.drops)  # of the new epoch
        drawn = await world.submit()
        await world.launched(drawn)
        world.launcher.end(drawn, 1, RELEASED)
        await world.until(lambda: world.registry.stats()["paused"] == "renderer")
        job_id = await submit(world)
        await world.launched(job_id)
        assert (await world.look(drawn))["waiting_for"] == "renderer"
        assert (await world.look(job_id))["waiting_for"] == "turn"
        world.registry.load_failed("no such file")
        assert (await world.look(job_id))["waiting_for"] == "turn"
        world.launcher.drops.clear()
        world.launcher.end(job_id, 1, None)
        await world.draw(job_id, 2)
        assert await world.status(job_id) == "SUCCESS"
        assert world.launcher.drops == []
        assert not world.registry.stats()["pools"][DEFAULT_POOL]["proven"]


async def test_a_cancelled_one_is_killed_at_once(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        running, waiting = await submit(world), await submit(world)
        await work(world, running, 1)
        world.files.put(running, 1)
        drops = list(world.launcher.drops)
        await world.registry.cancel(running, "ann")
        await world.until(lambda: nothing_lives(world) or world.launcher.runs(waiting))
        await world.until(lambda: world.launcher.killed == [running] and not world.files.names())
        assert await world.status(running) == "REVOKED"
        assert world.launcher.drops == drops
        await world.draw(waiting)


async def test_a_killed_registry_starts_it_again(tmp_path: Path) -> None:
    """One set of files: those of the attempt that is published, and all that belong to its images."""
    async with World(tmp_path) as world:
        job_id = await submit(world)
        await work(world, job_id, 1)
        world.files.put(job_id, 1)
        await world.die_and_rise()
        await work(world, job_id, 2)
        main = world.files.put(job_id, 2)
        (world.files.root / f"{job_id}_2_map.png").write_bytes(b"map")
        extra = StoredFile(
            role="normal_map",
            path=f"{job_id}_2_map.png",
            content_type="image/png",
            size_bytes=3,
            sha256="",
        )
        image = image_file(path=main["path"], files=[extra])
        assert await world.finish(job_id, 2, [image])
        await world.until(lambda: f"{job_id}_1.png" not in world.files.names())
        await world.die_and_rise()  # the sweep keeps what is published
        await world.until(lambda: world.registry.stats()["live"] == 0)
        assert world.files.names() == [f"{job_id}_2.png", f"{job_id}_2_map.png"]
        await world.registry.delete(job_id, "ann")
        await world.until(lambda: not world.files.names())


async def test_one_that_kills_its_task_is_given_up(tmp_path: Path) -> None:
    """By the third time; its pictures may need more memory than there is."""
    async with World(tmp_path) as world:
        job_id = await submit(world)
        for fence in (1, 2, 3):
            await work(world, job_id, fence)
            world.launcher.end(job_id, fence, None)
        await world.ended(job_id)
        assert await world.code_of(job_id) == "task_died"
        assert (await world.look(job_id))["attempts"] == 3
        await world.until(lambda: nothing_lives(world))


@pytest.mark.parametrize("started", [True, False])
async def test_a_task_that_never_worked_is_innocent(
    tmp_path: Path, started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster where tasks cannot run fails no job."""
    monkeypatch.setattr("serve_app.jobs.pauses.LONGEST_BACKOFF_S", 0.01)
    async with World(tmp_path) as world:
        job_id = await submit(world)
        for fence in range(1, 6):
            await world.launched(job_id, fence)
            if started:
                await world.started(job_id, fence)
            world.launcher.end(job_id, fence, None if fence % 2 else STOPPED)
        await world.draw(job_id, 6)
        assert await world.status(job_id) == "SUCCESS"
