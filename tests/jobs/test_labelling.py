"""Labelling: marks and tags at any time, a priority while the job is in line; on disk first, then told."""

from __future__ import annotations

import asyncio
from pathlib import Path

from serve_app.messages import JobChanges
from tests.factories import labels
from tests.jobs.harness import World, disk_held

MARKED: JobChanges = {"marks": {"0": {"starred": True}}}


async def test_marks_and_tags_stay_over_a_restart(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit(labelled=labels(tags=["before"]))
        assert await world.draw(job_id)
        before = await world.look(job_id)
        changes: JobChanges = {"tags": ["after"], "marks": {"0": {"rating": 4}}}
        for _ in range(2):  # the transport repeats a call whose answer was lost
            reply = await world.registry.change(job_id, "ann", changes)
            assert reply["job"] is not None
            assert reply == {"job": await world.look(job_id), "begun": False}
        await world.registry.change(job_id, "ann", MARKED)
        await world.die_and_rise()
        after = await world.look(job_id)
        assert after["labels"]["tags"] == ["after"]
        assert after["labels"].get("marks") == {"0": {"rating": 4, "starred": True}}
        assert after["rev"] != before["rev"]
        assert (after["status"], after["images"]) == (before["status"], before["images"])
        page = await world.registry.page("ann", {"tag": "after", "rating": 4}, 9, None, None)
        assert [job["job_id"] for job in page["jobs"]] == [job_id]
        assert (await world.registry.page("ann", {"tag": "before"}, 9, None, None))["jobs"] == []


async def test_nobody_changes_the_jobs_of_others(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.draw(job_id)
        nothing = {"job": None, "begun": False}
        assert await world.registry.change(job_id, "bob", MARKED) == nothing
        assert await world.registry.change("unknown", "ann", MARKED) == nothing
        assert "marks" not in (await world.look(job_id))["labels"]
        stone = await world.registry.delete(job_id, "ann")
        assert await world.registry.change(job_id, "ann", MARKED) == {"job": stone, "begun": False}
        assert await world.registry.change(job_id, "bob", MARKED) == nothing


async def test_a_priority_moves_a_job_in_line_and_over_a_restart(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        running, *waiting = [await world.submit() for _ in range(4)]
        await world.started(running)
        reply = await world.registry.change(waiting[2], "ann", {"priority": "high"})
        assert reply["job"] is not None
        assert "queue_position" in reply["job"]
        assert reply["job"]["queue_position"] == 1
        assert (await world.look(waiting[0]))["queue_position"] == 2
        await world.registry.change(waiting[0], "ann", {"priority": "low"})
        assert [await world.draw_next() for _ in range(2)] == [running, waiting[2]]
        await world.until(lambda: world.launcher.running)
        await world.die_and_rise()
        assert [await world.draw_next() for _ in range(2)] == [waiting[1], waiting[0]]


async def test_a_job_whose_turn_has_come_keeps_its_priority(tmp_path: Path) -> None:
    """Nothing of the change is kept. What is so already may be said again."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.launched(job_id)
        for draw in (True, False):
            reply = await world.registry.change(job_id, "ann", {"priority": "low", "tags": ["a"]})
            assert reply == {"job": await world.look(job_id), "begun": True}
            assert (await world.look(job_id))["labels"] == labels()
            same = await world.registry.change(job_id, "ann", {"priority": "normal"})
            assert not same["begun"]
            assert not draw or await world.draw(job_id)


async def test_changes_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    """Two marks of two people, while the job itself goes on."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.launched(job_id)
        change = world.registry.change
        async with disk_held(world):
            calls = [
                asyncio.create_task(call)
                for call in (
                    change(job_id, "ann", {"marks": {"0": {"starred": True}}}),
                    world.registry.admitted(job_id, 1),
                    change(job_id, "ann", {"marks": {"0": {"rating": 2}, "1": {"rejected": True}}}),
                    change(job_id, "ann", {"tags": ["b"]}),
                )
            ]
            await asyncio.sleep(0)
        await asyncio.gather(*calls)
        marks = {"0": {"starred": True, "rating": 2}, "1": {"rejected": True}}
        view = await world.look(job_id)
        assert (view["status"], view["labels"]) == ("STARTED", labels(tags=["b"], marks=marks))
        assert await world.finish(job_id, 1, [world.files.put(job_id, 1)])
        assert (await world.look(job_id))["labels"] == labels(tags=["b"], marks=marks)
        await world.die_and_rise()
        assert (await world.look(job_id))["labels"] == labels(tags=["b"], marks=marks)
