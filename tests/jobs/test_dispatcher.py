"""The dispatcher: no more attempts than allowed, one at a time for each job, each driven to its end."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs import dispatcher
from serve_app.messages import Outcome
from serve_app.params import DEFAULT_POOL
from tests.factories import labels

from .harness import RELEASED, World, disk_held, nothing_lives, turns


async def test_no_more_in_flight_than_allowed(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 3}) as world:
        jobs = [await world.submit() for _ in range(10)]
        await world.launched(jobs[2])
        assert world.registry.stats()["in_flight"] == 3
        await world.draw(jobs[0])
        await world.launched(jobs[3])
        assert [ticket["job_id"] for ticket in world.launcher.launched] == jobs[:4]


async def test_redraws_count_for_the_share_of_their_client(tmp_path: Path) -> None:
    """What was drawn beyond the order is charged at its end: the other client's jobs come first then."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        ann = [await world.submit(labelled=labels(client="ann")) for _ in range(2)]
        bob = [await world.submit(labelled=labels(client="bob")) for _ in range(3)]
        ticket = await world.launched(ann[0])
        work = ticket["summary"]["work"]
        image = world.files.put(ann[0], 1)
        drawn = Outcome(kind="drawn", reason="", images=[image], extra_work=2 * work)
        world.launcher.end(ann[0], 1, drawn)
        await world.ended(ann[0])
        for job_id in bob:
            await world.draw(job_id)
        await world.draw(ann[1])
        order = [ticket["job_id"] for ticket in world.launcher.launched]
        assert order == [ann[0], bob[0], bob[1], bob[2], ann[1]]


async def test_a_lost_attempt_is_dropped_before_the_next_one_starts(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        drops_before = list(world.launcher.drops)
        world.launcher.end(job_id, 1, None)
        await world.launched(job_id, 2)
        epoch = world.registry.epoch
        assert world.launcher.drops == [*drops_before, (epoch, {job_id: 1})]


async def test_what_a_renderer_has_handed_over_is_not_dropped(tmp_path: Path) -> None:
    """A broadcast to every renderer costs more than all else that the end of a job costs."""
    async with World(tmp_path) as world:
        drawn, failed = await world.submit(), await world.submit()
        await world.started(drawn)
        await world.started(failed)
        before = list(world.launcher.drops)
        await world.draw(drawn)
        assert await world.fail(failed, 1)
        assert world.launcher.drops == before


async def test_a_new_epoch_drops_all_that_is_older(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        epoch = world.registry.epoch
        await world.die_and_rise()
        await world.until(lambda: world.launcher.drops)
        assert world.launcher.drops == [(epoch + 1, {})]


async def test_drain_launches_nothing_more(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        running, waiting = await world.submit(), await world.submit()
        await world.started(running)
        draining = asyncio.create_task(world.registry.drain(10))
        await world.draw(running)
        assert await draining
        assert await world.status(waiting) == "PENDING"
        assert len(world.launcher.launched) == 1
        assert await world.status(await world.submit()) == "PENDING"  # still accepted: it is a row
        assert (await world.look(waiting))["waiting_for"] == "draining"
        world.registry.resume()  # a pause that is over does not end it
        await turns()
        assert len(world.launcher.launched) == 1
        world.registry.deployed()  # whoever had it drained did not replace it
        await world.draw(waiting)


@pytest.mark.parametrize("broken", ["get", "update"])
async def test_a_job_whose_dispatch_meets_a_broken_disk_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async with World(tmp_path, {"cached_jobs": 1, "max_in_flight": 1}) as world:
        busy, first, second = [await world.submit() for _ in range(3)]
        await world.started(busy)
        failures: list[str] = []

        def fail(*_: Any, **__: Any) -> Any:
            failures.append(broken)
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(world.registry._store, broken, fail)
            world.registry._dispatcher.max_in_flight = 2  # there is room for the next one
            world.registry.resume()
            await world.until(lambda: world.registry.stats()["paused"] == "storage")
        assert failures
        assert world.registry.stats()["waiting"] == 2
        assert (await world.look(first))["waiting_for"] == "storage"
        world.registry.resume()
        assert await world.finish(busy, 1, [world.files.put(busy, 1)])
        await world.draw(first)
        await world.draw(second)
        await world.until(lambda: nothing_lives(world))


async def test_a_night_without_a_renderer_ends_in_the_morning(tmp_path: Path) -> None:
    """However often in a row it was tried, the next pause is a short one of at most 15 s."""
    async with World(tmp_path) as world:
        world.registry._pauses._of_pool[DEFAULT_POOL]._in_a_row = 5000
        job_id = await world.submit()
        await world.launched(job_id)
        world.launcher.end(job_id, 1, RELEASED)
        await world.until(lambda: world.registry.stats()["paused"] == "renderer")
        world.registry.resume()
        await world.started(job_id, 2)
        world.registry._dispatcher._losses[job_id] = 5000
        world.launcher.end(job_id, 2, None)
        await world.until(lambda: world.registry.stats()["later"] == 1)
        handle = world.registry._dispatcher._later[job_id]
        assert handle.when() - asyncio.get_running_loop().time() <= 15
        assert await world.status(job_id) == "RETRY"


# ---- stopping ----


@pytest.mark.parametrize("admitted", [True, False])
async def test_a_running_job_that_is_cancelled_is_dropped_by_its_fence(
    tmp_path: Path, admitted: bool
) -> None:
    """Of the attempt that runs, and once; what the attempt says later counts for nothing."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        world.launcher.end(job_id, 1, None)
        await world.launched(job_id, 2)
        if admitted:
            await world.started(job_id, 2)
        world.launcher.drops.clear()
        world.launcher.ends_dropped = False
        await world.registry.cancel(job_id, "ann")
        await world.until(lambda: world.launcher.drops)
        assert world.launcher.drops == [(world.registry.epoch, {job_id: 2})]
        assert world.registry.dropped()[1] == {job_id: 2}
        assert not await world.registry.admitted(job_id, 2)
        assert not await world.progress(job_id, 2, {})
        await world.preview(job_id, 2, 0, b"")
        assert (await world.look(job_id))["preview"] is None
        assert not await world.finish(job_id, 2, [world.files.put(job_id, 2)])
        await world.until(lambda: nothing_lives(world) and not world.files.names())
        assert await world.status(job_id) == "REVOKED"
        assert world.launcher.killed == []


async def test_a_task_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a renderer that does not come: no engine can end it."""
    monkeypatch.setattr(dispatcher, "CANCEL_GRACE_S", 0.02)
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        world.launcher.ends_dropped = False
        job_id, other = await world.submit(), await world.submit()
        await world.launched(job_id)
        await world.registry.cancel(job_id, "ann")
        await world.draw(other)  # its place is free
        assert world.launcher.killed == [job_id]


async def test_a_job_that_is_cancelled_in_its_backoff_does_not_come_back(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        for fence in (1, 2):
            await world.started(job_id, fence)
            world.launcher.end(job_id, fence, None)
        await world.until(lambda: world.registry.stats()["later"] == 1)
        assert world.registry.stats()["waiting"] == 1
        timer = world.registry._dispatcher._later[job_id]
        await world.registry.cancel(job_id, "ann")
        assert nothing_lives(world)
        assert timer.cancelled()
        assert len(world.launcher.launched) == 2


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_cancelling_while_an_attempt_is_being_committed(
    tmp_path: Path, cancel_first: bool
) -> None:
    """Whichever reaches the disk first, the job is revoked and no attempt stays."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        busy, job_id = await world.submit(), await world.submit()
        await world.started(busy)
        world.registry._dispatcher.max_in_flight = 2  # room for it, once the loop looks
        async with disk_held(world):
            if cancel_first:
                cancelling = asyncio.create_task(world.registry.cancel(job_id, "ann"))
                await turns()
                world.registry.resume()
            else:
                world.registry.resume()
                await turns()
                cancelling = asyncio.create_task(world.registry.cancel(job_id, "ann"))
            await turns()
        await cancelling
        assert await world.finish(busy, 1, [world.files.put(busy, 1)])
        await world.until(lambda: nothing_lives(world) and not world.launcher.running)
        assert await world.status(job_id) == "REVOKED"
        assert len(world.launcher.launched) == (1 if cancel_first else 2)
        assert ((world.registry.epoch, {job_id: 1}) in world.launcher.drops) != cancel_first


# ---- previews ----


async def test_previews_are_asked_for_and_shown_until_the_job_ends(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        running, waiting, unwatched = [await world.submit() for _ in range(3)]
        await world.started(running)
        for job_id in (running, running, waiting):
            await world.registry.send_previews(job_id)
        assert world.launcher.previewed == [running]  # once; the other one's order will say it
        for number, data in ((1, b"one"), (2, b"two")):
            await world.preview(running, 1, 0, data)
            assert (await world.look(running))["preview"] == {
                "index": 0,
                "number": number,
                "data": data,
            }
        await world.preview(running, 2, 0, b"of an attempt that is not there")
        assert (await world.look(running))["preview"]["number"] == 2  # type: ignore[index]
        await world.draw(running)
        assert (await world.look(running))["preview"] is None
        assert (await world.launched(waiting)).get("preview")
        world.launcher.end(waiting, 1, None)
        assert (await world.launched(waiting, 2)).get("preview"), "it is still watched"
        await world.draw(waiting, 2)
        assert not (await world.launched(unwatched)).get("preview")
        await world.draw(unwatched)
        await world.until(lambda: nothing_lives(world))


@pytest.mark.parametrize("cached_jobs", [100, 1])
async def test_watching_what_does_not_live_holds_nothing(tmp_path: Path, cached_jobs: int) -> None:
    async with World(tmp_path, {"max_in_flight": 1, "cached_jobs": cached_jobs}) as world:
        done = await world.submit()
        await world.draw(done)
        await world.idle()
        busy, waiting = await world.submit(), await world.submit()
        await world.launched(busy)
        await world.registry.send_previews(waiting)
        await world.registry.cancel(waiting, "ann")
        for job_id in (done, waiting, "unknown"):
            await world.registry.send_previews(job_id)
        assert world.registry.stats()["previewed"] == 0


# ---- gauges ----


async def test_the_depth_is_measured_after_it_changed_and_not_at_each_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.jobs.dispatcher.MEASURED_EVERY_S", 0.05)
    async with World(tmp_path, {"max_in_flight": 2}) as world:
        told: list[tuple[int, int]] = []
        metrics = world.registry._metrics
        monkeypatch.setattr(metrics, "depth", lambda *depth: told.append(depth))
        jobs = [await world.submit() for _ in range(12)]
        await world.until(lambda: told and told[-1] == (10, 2))
        for job_id in jobs:
            await world.draw(job_id)
        await world.until(lambda: told[-1] == (0, 0))
        assert len(told) < 3 * len(jobs)
