"""What a client, a watcher, a renderer and an attempt can rely on, over restarts too."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.encoding import decoded_views
from serve_app.jobs.store import database as database_module
from serve_app.messages import Outcome, Report
from serve_app.params import summary_of
from tests.factories import labels, params

from .harness import World, disk_held, turns

# ---- restart ----


async def test_every_accepted_job_ends_once_after_a_restart(tmp_path: Path) -> None:
    """Jobs in every stage are taken up again and end with one set of files each."""
    async with World(tmp_path, {"max_in_flight": 2}) as world:
        done, running, *waiting = [await world.submit() for _ in range(5)]
        await world.draw(done)
        await world.started(running)
        world.files.put(running, 1)  # written, but never committed
        await world.die_and_rise()
        assert await world.status(running) == "RETRY"
        assert await world.draw(running, 2)
        for job_id in waiting:
            await world.until(lambda j=job_id: any(k[0] == j for k in world.launcher.running))
            fence = next(f for j, f in world.launcher.running if j == job_id)
            await world.draw(job_id, fence)
        await world.idle()
        assert [await world.status(j) for j in (done, running, *waiting)] == ["SUCCESS"] * 5
        names = world.files.names()
        assert len(names) == 5
        assert f"{running}_2.png" in names


async def test_limits_of_newer_and_of_older_code_are_taken(tmp_path: Path) -> None:
    """What this code does not know is ignored, and what is not sent stays: no deploy breaks on a setting."""
    async with World(tmp_path) as world:
        before = world.registry._limits
        world.registry.configure({"max_pending": 1, "a_setting_of_newer_code": {"deep": [None]}})
        assert world.registry._limits == replace(before, max_pending=1)
        await world.submit()
        world.registry.configure({})
        assert world.registry._limits == replace(before, max_pending=1)


async def test_every_start_is_a_new_epoch(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        first = world.registry.epoch
        await world.die_and_rise()
        assert world.registry.epoch == first + 1


async def test_all_that_was_ordered_survives_a_restart(tmp_path: Path) -> None:
    said = labels(
        priority="high",
        tags=["level-3", "a"],
        metadata={"asset": {"id": 7, "name": "ключ"}, "odd": "\ud800\0", "huge": 10**30},
        client="build",
        retry_of="019a2041-7e91-7030-8f2c-47bbaa947f62",
    )
    async with World(tmp_path) as world:
        world.lose_ingress()
        job_id = await world.submit(params(style_id="icon"), said, cancel_after_s=600)
        before = await world.look(job_id)
        assert before["labels"] == said
        assert before["deadline"] == before["created_at"] + 600
        await world.die_and_rise()
        after = await world.look(job_id)
        for name in ("labels", "created_at", "deadline", "params", "owner"):
            assert after[name] == before[name]
        ticket = await world.launched(job_id, after["fence"] or 1)
        assert ticket["priority"] == "high"
        assert ticket["summary"] == summary_of(params(style_id="icon"))


async def test_priorities_and_clients_keep_their_order_over_a_restart(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        busy = await world.submit()
        await world.launched(busy)
        low, normal, high = [
            await world.submit(labelled=labels(priority=name)) for name in ("low", "normal", "high")
        ]
        bob = await world.submit(owner="bob", labelled=labels(client="bob"))
        assert (await world.look(high))["queue_position"] == 3  # after bob
        await world.die_and_rise()
        await world.registry.cancel(busy, "ann")
        await world.until(lambda: world.launcher.running and not world.launcher.runs(busy))
        served = [await world.draw_next() for _ in range(4)]
        assert [job_id for job_id in served if job_id != bob] == [high, normal, low]
        assert served.index(bob) <= 1


# ---- the attempt ----


async def test_a_superseded_attempt_cannot_publish(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        world.launcher.end(job_id, 1, None)
        await world.started(job_id, 2)
        assert not await world.finish(job_id, 1, [world.files.put(job_id, 1)])
        assert not await world.registry.admitted(job_id, 1)
        assert not await world.progress(job_id, 1, {})
        assert await world.draw(job_id, 2)
        assert not await world.finish(job_id, 1, [world.files.put(job_id, 1)])


# ---- renderers ----


async def test_a_new_renderer_learns_what_is_dead(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        world.launcher.end(job_id, 1, None)
        await world.started(job_id, 2)
        assert world.registry.dropped()[1] == {job_id: 1}
        await world.finish(job_id, 2, [world.files.put(job_id, 2)])
        assert world.registry.dropped()[1] == {job_id: 2}


# ---- watchers ----


async def test_a_watcher_sees_every_change_once_and_resyncs_on_a_new_epoch(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        reply = await world.registry.watch(0, 0, 0)
        assert reply["resync"]
        job_id = await world.submit()
        seen = await watched(world, reply["seq"], "PENDING")
        await world.started(job_id)
        seen += await watched(world, seen[-1][0], "STARTED")
        await world.finish(job_id, 1, [world.files.put(job_id, 1)])
        seen += await watched(world, seen[-1][0], "SUCCESS")
        assert len(set(seen)) == len(seen)
        reply = await world.registry.watch(world.registry.epoch, seen[-1][0], 0)
        assert not (await world.registry.watch(world.registry.epoch, reply["seq"], 0))["views"]
        await world.die_and_rise()
        assert (await world.registry.watch(reply["epoch"], reply["seq"], 0))["resync"]


async def watched(world: World, seq: int, status: str) -> list[tuple[int, str]]:
    """(cursor, status) of every change up to the first one of this status."""
    seen: list[tuple[int, str]] = []
    async with asyncio.timeout(10):
        while not seen or seen[-1][1] != status:
            reply = await world.registry.watch(world.registry.epoch, seq, 1)
            seq = reply["seq"]
            seen += [(seq, view["status"]) for view in decoded_views(reply["views"])]
    return seen


async def test_a_watcher_that_fell_behind_the_cache_resyncs(tmp_path: Path) -> None:
    async with World(tmp_path, {"cached_jobs": 1}) as world:
        cursor = (await world.registry.watch(world.registry.epoch, 0, 0))["seq"]
        for _ in range(3):
            await world.draw(await world.submit())
        reply = await world.registry.watch(world.registry.epoch, cursor, 0)
        assert reply["resync"]
        assert not (await world.registry.watch(world.registry.epoch, reply["seq"], 0))["resync"]


# ---- what comes too late, or waits ----


@pytest.mark.parametrize("how", ["published", "cancelled", "lost"])
async def test_a_report_that_comes_after_the_end_changes_nothing(tmp_path: Path, how: str) -> None:
    """And its renderer is told to stop."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.launched(job_id)
        if how == "published":
            assert await world.finish(job_id, 1, [world.files.put(job_id, 1)])
        elif how == "cancelled":
            await world.registry.cancel(job_id, "ann")
        else:
            world.launcher.end(job_id, 1, None)
            await world.launched(job_id, 2)
        before = await world.look(job_id)
        late = Report(
            admitted=[(job_id, 1, 0.5)],
            progress=[(job_id, 1, {"value": 0.5, "step": 1, "steps": 2})],
            previews=[(job_id, 1, 0, b"jpeg")],
        )
        for _ in range(2):
            assert await world.registry.report(late) == {job_id: 1}
            assert await world.look(job_id) == before


async def test_a_slow_disk_delays_answers_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a commit takes its time, looks are answered; what came meanwhile shares the next one, and
    nobody is told of what is not on disk."""
    async with World(tmp_path, {"max_in_flight": 60, "max_pending": 1000}) as world:
        running = [await world.submit() for _ in range(50)]
        for job_id in running:
            await world.started(job_id)
        commits: list[int] = []
        commit = database_module._together
        monkeypatch.setattr(
            database_module,
            "_together",
            lambda db, group, committing: (
                commits.append(len(group)),
                commit(db, group, committing),
            )[1],
        )
        async with disk_held(world):
            submits = [asyncio.create_task(world.submit()) for _ in range(100)]
            for job_id in running:
                files = [world.files.put(job_id, 1)]
                world.launcher.end(job_id, 1, Outcome(kind="drawn", reason="", images=files))
            cancelled = asyncio.create_task(world.registry.cancel(running[0], "ann"))
            await turns(50)
            assert {await world.status(job_id) for job_id in running} == {"STARTED"}
            assert not any(submit.done() for submit in submits)
        jobs = await asyncio.gather(*submits)
        await cancelled
        for job_id in running:
            await world.ended(job_id)
        assert commits[1] == 151, "after the one that held the disk"
        while world.launcher.running or world.registry.stats()["waiting"]:
            await world.draw_next()
        assert {await world.status(job_id) for job_id in [*jobs, *running[1:]]} == {"SUCCESS"}
