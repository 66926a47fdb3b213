"""How jobs end other than by being drawn: cancelled, too late, deleted, expired; and nothing is held then."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs import cleaning, dispatcher
from serve_app.messages import JobError

from .harness import DIED, RELEASED, SETTLED, World, disk_held, new_order, nothing_lives, turns

ERROR: JobError = {"code": "non_finite", "title": "t", "detail": "d", "retryable": False}


async def code_of(world: World, job_id: str) -> str | None:
    error = (await world.look(job_id))["error"]
    return None if error is None else error["code"]


# ---- cancel ----


async def test_a_waiting_job_that_is_cancelled_is_never_launched(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        busy, job_id, other = [await world.submit() for _ in range(3)]
        await world.launched(busy)
        view = await world.registry.cancel(job_id, "ann")
        assert view is not None
        assert "status" in view
        assert (view["status"], view["started_at"], view["queue_position"]) == (
            "REVOKED",
            None,
            None,
        )
        assert await code_of(world, job_id) == "cancelled"
        await world.draw(busy)
        await world.draw(other)
        await world.until(lambda: nothing_lives(world))
        assert job_id not in [order["job_id"] for order in world.launcher.launched]
        assert await world.status(job_id) == "REVOKED"


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
        assert world.registry.dropped() == {job_id: 2}
        assert not await world.registry.admitted(job_id, 2)
        assert not await world.registry.progress(job_id, 2, {})
        assert not await world.registry.preview(job_id, 2, 0, b"")
        assert not await world.registry.finish(job_id, 2, [world.files.put(job_id, 2)])
        assert not await world.registry.fail(job_id, 2, ERROR)
        world.launcher.end(job_id, 2, SETTLED)
        await world.until(lambda: nothing_lives(world) and not world.files.names())
        assert await world.status(job_id) == "REVOKED"
        assert world.launcher.killed == []


async def test_cancelling_tells_the_engines_before_it_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk does not keep a device busy for nobody."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        told, waited = threading.Event(), list[bool]()
        drop, remove = world.launcher.drop, world.files.remove

        async def hear(epoch: int, fences: dict[str, int]) -> None:
            await drop(epoch, fences)
            told.set()

        def clean(paths: Iterable[str]) -> int:
            waited.append(told.wait(5))
            return remove(paths)

        monkeypatch.setattr(world.launcher, "drop", hear)
        monkeypatch.setattr(world.files, "remove", clean)
        await world.registry.cancel(job_id, "ann")
        await world.until(lambda: nothing_lives(world))
        assert waited
        assert all(waited)


async def test_nobody_cancels_what_is_not_his(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        assert await world.registry.cancel("unknown", "ann") is None
        assert await world.registry.cancel(job_id, "bob") is None
        assert await world.draw(job_id)


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE"])
async def test_cancelling_a_finished_job_shows_how_it_ended(tmp_path: Path, status: str) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        if status == "SUCCESS":
            await world.registry.finish(job_id, 1, [world.files.put(job_id, 1)])
        else:
            await world.registry.fail(job_id, 1, ERROR)
        before = await world.look(job_id)
        assert await world.registry.cancel(job_id, "ann") == before
        assert await world.look(job_id) == before
        assert len(world.files.names()) == (status == "SUCCESS")


async def test_cancelling_twice_at_once_is_cancelling_once(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        before = len(world.launcher.drops)
        views = await asyncio.gather(*(world.registry.cancel(job_id, "ann") for _ in range(5)))
        assert all(view == views[0] for view in views)
        await world.until(lambda: nothing_lives(world))
        assert world.launcher.drops[before:] == [(world.registry.epoch, {job_id: 1})]


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_cancelling_while_an_attempt_is_being_committed(
    tmp_path: Path, cancel_first: bool
) -> None:
    """Whichever reaches the disk first, the job is revoked and no attempt stays."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        busy, job_id = await world.submit(), await world.submit()
        await world.started(busy)
        image = world.files.put(busy, 1)
        assert await world.registry.finish(busy, 1, [image])
        async with disk_held(world):
            if cancel_first:
                cancelling = asyncio.create_task(world.registry.cancel(job_id, "ann"))
                await turns()
                world.launcher.end(busy, 1, SETTLED)
            else:
                world.launcher.end(busy, 1, SETTLED)
                await turns()
                cancelling = asyncio.create_task(world.registry.cancel(job_id, "ann"))
            await turns()
        await cancelling
        await world.until(lambda: nothing_lives(world) and not world.launcher.running)
        assert await world.status(job_id) == "REVOKED"
        assert len(world.launcher.launched) == (1 if cancel_first else 2)
        assert ((world.registry.epoch, {job_id: 1}) in world.launcher.drops) != cancel_first


async def test_cancelling_against_finishing_has_one_winner(tmp_path: Path) -> None:
    """Both orders on the disk: both sides hear the same end."""
    async with World(tmp_path) as world:
        for cancel_first in (True, False):
            job_id = await world.submit()
            await world.started(job_id)
            calls: list[Callable[[], Any]] = [
                lambda j=job_id: world.registry.cancel(j, "ann"),
                lambda j=job_id: world.registry.finish(j, 1, [world.files.put(j, 1)]),
            ]
            async with disk_held(world):
                tasks = [
                    asyncio.create_task(call()) for call in calls[:: 1 if cancel_first else -1]
                ]
                await turns()
            await asyncio.gather(*tasks)
            cancelled, finished = (task.result() for task in tasks[:: 1 if cancel_first else -1])
            assert cancelled["status"] == ("REVOKED" if cancel_first else "SUCCESS")
            assert finished == (not cancel_first)
            if (job_id, 1) in world.launcher.running:
                world.launcher.end(job_id, 1, SETTLED)
            await world.until(lambda: nothing_lives(world))


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


@pytest.mark.parametrize("cached_jobs", [100, 1])
@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_what_a_cancelled_attempt_writes_is_removed(
    tmp_path: Path, cached_jobs: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what it writes after the cancel, and if the memory of the job is gone before it ends."""
    monkeypatch.setattr(dispatcher, "CANCEL_GRACE_S", 60)
    async with World(tmp_path, {"cached_jobs": cached_jobs}) as world:
        world.launcher.ends_dropped = False
        job_id = await world.submit()
        await world.started(job_id)
        world.files.put(job_id, 1)
        await getattr(world.registry, how)(job_id, "ann")
        assert world.files.names() == []
        others = [await world.submit() for _ in range(3)]
        for other in others:
            await world.draw(other)
        world.files.put(job_id, 1)  # by a task that had not heard of it yet
        world.launcher.end(job_id, 1, None)
        await world.until(lambda: nothing_lives(world))
        await world.until(lambda: f"{job_id}_1.png" not in world.files.names())
        assert len(world.files.names()) == 3


# ---- whoever asked hangs up ----


@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_hanging_up_leaves_no_job_half_revoked(tmp_path: Path, how: str) -> None:
    """The call is cancelled while its commit is on the way: the job is revoked all the same, in memory
    as on disk, and the work stops."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        job_id, other = await world.submit(), await world.submit()
        await world.started(job_id)
        async with disk_held(world):
            call = asyncio.create_task(getattr(world.registry, how)(job_id, "ann"))
            await turns()
            call.cancel()
            await asyncio.wait([call])
        await world.until(lambda: (world.registry.epoch, {job_id: 1}) in world.launcher.drops)
        await world.draw(other)
        await world.until(lambda: nothing_lives(world))
        assert await world.status(job_id) == ("REVOKED" if how == "cancel" else "deleted")


async def test_hanging_up_in_a_submit_leaves_a_job_that_is_driven(tmp_path: Path) -> None:
    """The client comes back with the same key, and gets the job it ordered, drawn."""
    async with World(tmp_path) as world:
        key = {"idempotency_key": "k", "body_hash": "h"}
        async with disk_held(world):
            call = asyncio.create_task(world.registry.submit(new_order(**key)))
            await turns()
            call.cancel()
            await asyncio.wait([call])
        reply = await world.registry.submit(new_order(**key))
        assert reply["replayed"]
        assert await world.draw(reply["job"]["job_id"])


async def test_a_task_that_dies_in_its_finish_leaves_one_truth(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        image = world.files.put(job_id, 1)
        async with disk_held(world):
            call = asyncio.create_task(world.registry.finish(job_id, 1, [image]))
            await turns()
            call.cancel()
            world.launcher.end(job_id, 1, None)
            await asyncio.wait([call])
        await world.until(lambda: nothing_lives(world))
        assert await world.status(job_id) == "SUCCESS"
        assert world.files.names() == [image["path"]]
        assert len(world.launcher.launched) == 1


# ---- deadlines ----


@pytest.mark.parametrize("stage", ["waiting", "launched", "started", "backoff"])
async def test_a_job_that_is_not_done_in_time_is_revoked(tmp_path: Path, stage: str) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        if stage == "waiting":
            await world.launched(await world.submit())
        job_id = await world.submit(cancel_after_s=0.5)
        fence = 1
        if stage == "launched":
            await world.launched(job_id)
        elif stage == "started":
            await world.started(job_id)
        elif stage == "backoff":
            for fence in (1, 2):
                await world.started(job_id, fence)
                world.launcher.end(job_id, fence, None)
        await world.ended(job_id)
        view = await world.look(job_id)
        assert (view["status"], await code_of(world, job_id)) == ("REVOKED", "deadline_exceeded")
        assert view["deadline"] == pytest.approx(view["created_at"] + 0.5)
        dropped = (world.registry.epoch, {job_id: fence})
        if stage != "waiting":
            await world.until(lambda: dropped in world.launcher.drops)
            await world.until(lambda: nothing_lives(world))


async def test_a_deadline_that_passes_while_nothing_runs_is_kept_at_the_next_start(
    tmp_path: Path,
) -> None:
    async with World(tmp_path) as world:
        early, late, kept = [await world.submit(cancel_after_s=60) for _ in range(3)]
        await world.draw(kept)
        await world.registry.close()
        with sqlite3.connect(tmp_path / "state" / "jobs.db") as db:
            db.execute("UPDATE jobs SET deadline = created_at WHERE job_id != ?", (late,))
        await world.rise()
        await world.ended(early)
        assert await code_of(world, early) == "deadline_exceeded"
        assert await world.status(kept) == "SUCCESS"
        assert world.registry.stats()["deadlines"] == 1
        await world.draw(late, 2)
        assert world.registry.stats()["deadlines"] == 0


async def test_a_deadline_that_meets_a_full_disk_is_kept_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.jobs.endings.EXPIRE_AGAIN_S", 0.05)
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        await world.launched(await world.submit())
        tried = asyncio.Event()

        async def full(*_: Any, **__: Any) -> bool:
            tried.set()
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(world.registry._store, "update", full)
            job_id = await world.submit(cancel_after_s=0.05)
            await asyncio.wait_for(tried.wait(), 10)
        await world.ended(job_id)
        assert await code_of(world, job_id) == "deadline_exceeded"


async def test_a_job_in_time_is_not_touched_by_its_deadline(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit(cancel_after_s=3600)
        assert world.registry.stats()["deadlines"] == 1
        await world.draw(job_id)
        assert world.registry.stats()["deadlines"] == 0
        other = await world.submit(cancel_after_s=3600)
        await world.registry.cancel(other, "ann")
        assert world.registry.stats()["deadlines"] == 0
        assert await code_of(world, other) == "cancelled"


# ---- delete ----


async def test_a_deleted_job_leaves_a_tombstone_and_no_files(tmp_path: Path) -> None:
    """For ever: repeated deletes and restarts change nothing, and strangers learn nothing by deleting."""
    async with World(tmp_path) as world:
        job_id = await world.submit(tags=["t"])
        await world.draw(job_id)
        await world.idle()
        assert await world.registry.delete(job_id, "bob") is None
        assert await world.status(job_id) == "SUCCESS"
        cursor = (await world.registry.watch(world.registry.epoch, 0, 0))["seq"]
        stone = {"job_id": job_id, "owner": "ann", "gone": "deleted"}
        for _ in range(2):
            assert await world.registry.delete(job_id, "ann") == stone
            assert await world.registry.delete(job_id, "bob") is None
            assert await world.registry.get(job_id) == stone
            assert await world.registry.cancel(job_id, "ann") == stone
            assert await world.registry.cancel(job_id, "bob") is None
            assert (await world.registry.page("ann", {}, 10, None, None))["jobs"] == []
            assert (await world.registry.page("ann", {"tag": "t"}, 10, None, None))["jobs"] == []
            assert world.files.names() == []
            if cursor:
                gone = (await world.registry.watch(world.registry.epoch, cursor, 0))["gone"]
                assert gone == [job_id]
                cursor = 0
            await world.die_and_rise()
        assert await world.registry.delete("unknown", "ann") is None
        with contextlib.closing(sqlite3.connect(tmp_path / "state" / "jobs.db")) as db:
            for table in ("jobs", "tags", "idempotency"):
                assert db.execute(f"SELECT * FROM {table}").fetchall() == []


async def test_deleting_a_job_that_lives_stops_it_first(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        running, waiting = await world.submit(), await world.submit(cancel_after_s=60)
        await world.started(running)
        for job_id in (waiting, running):
            stones = await asyncio.gather(*(world.registry.delete(job_id, "ann") for _ in range(3)))
            assert [stone and stone["gone"] for stone in stones] == ["deleted"] * 3
        await world.until(lambda: nothing_lives(world))
        assert (world.registry.epoch, {running: 1}) in world.launcher.drops
        assert len(world.launcher.launched) == 1
        assert not await world.registry.finish(running, 1, [])
        assert await world.status(running) == "deleted"


async def test_the_key_of_a_deleted_job_orders_anew_and_its_order_does_not(tmp_path: Path) -> None:
    """A call that is repeated by the transport must not bring a deleted job back."""
    async with World(tmp_path) as world:
        order = new_order(idempotency_key="k", body_hash="h")
        await world.registry.submit(order)
        await world.draw(order["job_id"])
        await world.registry.delete(order["job_id"], "ann")
        again = await world.registry.submit(order)
        assert again["error"]["code"] == "deleted"
        anew = await world.registry.submit(new_order(idempotency_key="k", body_hash="other"))
        assert not anew["replayed"]
        assert await world.draw(anew["job"]["job_id"])
        assert await world.status(order["job_id"]) == "deleted"


async def test_files_of_a_job_whose_delete_was_cut_short_are_swept(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id, kept = await world.submit(), await world.submit()
        await world.draw(job_id)
        await world.draw(kept)
        job = await world.registry._store.get(job_id)
        assert job is not None
        await world.registry._store.bury([job], "deleted")  # and no further
        assert len(world.files.names()) == 2
        await world.die_and_rise()
        await world.until(lambda: world.files.names() == [f"{kept}_1.png"])


async def test_a_sweep_that_was_cut_short_is_done_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that dies again and again leaves no files for good."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        world.launcher.end(job_id, 1, None)
        await world.draw(job_id, 2)
        await world.idle()
        world.files.put(job_id, 1)  # by a task that outlived its attempt

        def broken(*_: Any) -> Any:
            raise OSError("gone for a while")

        with monkeypatch.context() as patch:
            patch.setattr("tests.jobs.harness.Folder.files_of", broken)
            for _ in range(3):
                await world.die_and_rise()
                await world.draw(await world.submit())
        assert f"{job_id}_1.png" in world.files.names()
        await world.die_and_rise()
        await world.until(lambda: f"{job_id}_1.png" not in world.files.names())
        assert f"{job_id}_2.png" in world.files.names()
        async with asyncio.timeout(10):
            while await world.registry._store.littering():
                pass  # what was swept is not looked at again


# ---- retention ----


async def test_finished_jobs_expire_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "RETIRE_EVERY_S", 0.01)
    async with World(tmp_path, {"retention_s": 0.05}) as world:
        waiting = await world.submit()
        await world.started(waiting)
        ends = {"SUCCESS": await world.submit(), "REVOKED": await world.submit()}
        await world.started(ends["SUCCESS"])
        image = world.files.put(ends["SUCCESS"], 1)
        await world.registry.finish(ends["SUCCESS"], 1, [image])
        await world.registry.cancel(ends["REVOKED"], "ann")
        for job_id in ends.values():
            await world.becomes(job_id, "expired")
            assert await world.registry.delete(job_id, "ann") == {
                "job_id": job_id,
                "owner": "ann",
                "gone": "expired",
            }
        await world.until(lambda: not world.files.names())
        assert await world.status(waiting) == "STARTED"


async def test_a_backlog_of_expired_jobs_goes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "RETIRED_AT_ONCE", 2)
    async with World(tmp_path) as world:
        jobs = [await world.submit() for _ in range(5)]
        for job_id in jobs:
            await world.draw(job_id)
        assert (await world.look(jobs[0]))["expires_at"] is None
        world.limits["retention_s"] = 3600
        await world.die_and_rise()
        view = await world.look(jobs[0])
        assert view["completed_at"] is not None
        assert view["expires_at"] == view["completed_at"] + 3600
        world.limits["retention_s"] = 1e-6
        await world.die_and_rise()
        await world.until(lambda: not world.files.names())
        assert [await world.status(job_id) for job_id in jobs] == ["expired"] * 5


# ---- what is asked for comes back ----


async def test_all_that_was_ordered_survives_a_restart(tmp_path: Path) -> None:
    said: dict[str, Any] = {
        "priority": "high",
        "tags": ["level-3", "a"],
        "metadata": {"asset": {"id": 7, "name": "ключ"}},
        "client": "build",
        "retry_of": "019a2041-7e91-7030-8f2c-47bbaa947f62",
    }
    async with World(tmp_path) as world:
        world.registry._dispatcher._watched_at = float("-inf")
        job_id = await world.submit(**said, cancel_after_s=600)
        before = await world.look(job_id)
        assert {name: before.get(name) for name in said} == said
        assert before["deadline"] == before["created_at"] + 600
        await world.die_and_rise()
        after = await world.look(job_id)
        for name in (*said, "created_at", "deadline", "params", "owner"):
            assert after.get(name) == before.get(name)
        assert (await world.launched(job_id, after["fence"] or 1)).get("priority") == "high"


async def test_priorities_and_clients_keep_their_order_over_a_restart(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        busy = await world.submit()
        await world.launched(busy)
        low, normal, high = [await world.submit(priority=p) for p in ("low", "normal", "high")]
        bob = await world.submit(owner="bob")
        assert (await world.look(high))["queue_position"] == 3  # after bob
        await world.die_and_rise()
        await world.registry.cancel(busy, "ann")
        served: list[str] = []
        while len(served) < 4:
            await world.until(lambda: world.launcher.running)
            job_id, fence = next(iter(world.launcher.running))
            if job_id != busy:
                await world.draw(job_id, fence)
                served.append(job_id)
            await world.until(lambda j=job_id: all(r[0] != j for r in world.launcher.running))
        assert [job_id for job_id in served if job_id != bob] == [high, normal, low]
        assert served.index(bob) <= 1


# ---- why it waits ----


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
        world.registry._dispatcher._watched_at = float("-inf")
        assert await said() == [(None, None), ("application", 1), ("application", 2)]


async def test_no_end_is_promised_while_nothing_is_launched(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        first = await world.submit()
        assert (await world.look(first))["eta_seconds"] is None
        await world.launched(first)
        await world.registry.admitted(first, 1, solo_seconds=10.0)
        second = await world.submit()
        assert (await world.look(second))["eta_seconds"] == pytest.approx(20.0, rel=0.1)
        world.registry._dispatcher._watched_at = float("-inf")
        assert (await world.look(second))["eta_seconds"] is None


# ---- previews ----


async def test_previews_are_asked_for_and_shown_until_the_job_ends(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        running, waiting, unwatched = [await world.submit() for _ in range(3)]
        await world.started(running)
        for job_id in (running, running, waiting):
            await world.registry.send_previews(job_id)
        assert world.launcher.shown == [running]  # once; the other one's order will say it
        for number, data in ((1, b"one"), (2, b"two")):
            assert await world.registry.preview(running, 1, 0, data)
            assert (await world.look(running))["preview"] == {
                "index": 0,
                "number": number,
                "data": data,
            }
        assert not await world.registry.preview(running, 2, 0, b"")
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


# ---- memory and disk ----


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


@pytest.mark.parametrize("broken", ["get", "update"])
async def test_a_job_whose_dispatch_meets_a_broken_disk_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async with World(tmp_path, {"cached_jobs": 1, "max_in_flight": 1}) as world:
        busy, first, second = [await world.submit() for _ in range(3)]
        await world.started(busy)
        await world.registry.finish(busy, 1, [world.files.put(busy, 1)])
        failures: list[str] = []

        def fail(*_: Any, **__: Any) -> Any:
            failures.append(broken)
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(world.registry._store, broken, fail)
            world.launcher.end(busy, 1, SETTLED)
            await world.until(lambda: world.registry.stats()["paused"] == "storage")
        assert failures
        assert world.registry.stats()["waiting"] == 2
        assert (await world.look(first))["waiting_for"] == "storage"
        world.registry.resume()
        await world.draw(first)
        await world.draw(second)
        await world.until(lambda: nothing_lives(world))


async def test_a_night_without_a_renderer_ends_in_the_morning(tmp_path: Path) -> None:
    """However often in a row it was tried, the next pause is a short one of at most 15 s."""
    async with World(tmp_path) as world:
        world.registry._dispatcher._pauses = 5000
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


async def test_a_poisonous_job_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_attempts": 1}) as world:
        job_id = await world.submit(cancel_after_s=60)
        await world.started(job_id)
        world.files.put(job_id, 1)
        world.launcher.end(job_id, 1, DIED)
        await world.ended(job_id)
        await world.until(lambda: nothing_lives(world) and not world.files.names())
        assert await code_of(world, job_id) == "renderer_died"
