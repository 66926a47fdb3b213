"""How attempts and jobs end: lost, failed, cancelled, too late, deleted. Nothing is held or left then."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs import dispatcher
from tests.factories import labels, submission

from .harness import DIED, ERROR, STOPPED, World, disk_held, nothing_lives, turns

# ---- an attempt ends ----


async def test_only_a_replica_death_counts_as_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "backoff", lambda *_: 0.01)
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        for fence, outcome, attempts in [(1, None, 0), (2, STOPPED, 0), (3, DIED, 1)]:
            await world.started(job_id, fence)
            world.launcher.end(job_id, fence, outcome)
            await world.launched(job_id, fence + 1)
            view = await world.look(job_id)
            assert (view["attempts"], view["status"]) == (attempts, "RETRY")
        await world.die_and_rise()
        await world.launched(job_id, 5)
        view = await world.look(job_id)
        assert view["attempts"] == 1


async def test_after_a_death_a_job_runs_alone_and_then_fails(tmp_path: Path) -> None:
    """A poisonous job ends as FAILURE after max_attempts; an innocent mate is alone only once."""
    async with World(tmp_path) as world:
        poison, mate = await world.submit(), await world.submit()
        await world.started(poison)
        await world.started(mate)
        world.launcher.end(poison, 1, DIED)
        world.launcher.end(mate, 1, DIED)
        assert (await world.launched(mate, 2))["alone"]
        assert await world.draw(mate, 2)
        for fence in (2, 3):
            assert (await world.launched(poison, fence))["alone"]
            await world.started(poison, fence)
            world.launcher.end(poison, fence, DIED)
        await world.ended(poison)
        view = await world.look(poison)
        assert view["error"] is not None
        assert (view["status"], view["error"]["code"]) == ("FAILURE", "renderer_died")
        assert await world.status(mate) == "SUCCESS"


async def test_a_poisonous_job_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_attempts": 1}) as world:
        job_id = await world.submit(cancel_after_s=60)
        await world.started(job_id)
        world.files.put(job_id, 1)
        world.launcher.end(job_id, 1, DIED)
        await world.ended(job_id)
        await world.until(lambda: nothing_lives(world) and not world.files.names())
        assert await world.code_of(job_id) == "renderer_died"


async def test_a_failed_job_keeps_its_reason_and_no_files(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        world.files.put(job_id, 1)
        assert await world.fail(job_id, 1, ERROR)
        view = await world.look(job_id)
        assert (view["status"], view["error"]) == ("FAILURE", ERROR)
        assert world.files.names() == []


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


async def test_a_slow_disk_keeps_no_place_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next job is launched while the files of a cancelled one are still being removed."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        job_id, other = await world.submit(), await world.submit()
        await world.started(job_id)
        gate, remove = threading.Event(), world.files.remove

        def slow(paths: Iterable[str]) -> int:
            gate.wait(10)
            return remove(paths)

        monkeypatch.setattr(world.files, "remove", slow)
        cancelling = asyncio.create_task(world.registry.cancel(job_id, "ann"))
        await world.launched(other)
        assert not cancelling.done()
        gate.set()
        await cancelling
        await world.draw(other)
        await world.until(lambda: nothing_lives(world))


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
        assert await world.code_of(job_id) == "cancelled"
        await world.draw(busy)
        await world.draw(other)
        await world.until(lambda: nothing_lives(world))
        assert job_id not in [ticket["job_id"] for ticket in world.launcher.launched]
        assert await world.status(job_id) == "REVOKED"


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
            await world.finish(job_id, 1, [world.files.put(job_id, 1)])
        else:
            await world.fail(job_id, 1, ERROR)
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


async def test_cancelling_against_finishing_has_one_winner(tmp_path: Path) -> None:
    """Both orders on the disk: both sides hear the same end."""
    async with World(tmp_path) as world:
        for cancel_first in (True, False):
            job_id = await world.submit()
            await world.started(job_id)
            calls: list[Callable[[], Any]] = [
                lambda j=job_id: world.registry.cancel(j, "ann"),
                lambda j=job_id: world.finish(j, 1, [world.files.put(j, 1)]),
            ]
            async with disk_held(world):
                tasks: list[asyncio.Task[Any]] = []
                for call in calls[:: 1 if cancel_first else -1]:
                    tasks.append(asyncio.create_task(call()))
                    await turns()
            await asyncio.gather(*tasks)
            cancelled, finished = (task.result() for task in tasks[:: 1 if cancel_first else -1])
            assert cancelled["status"] == ("REVOKED" if cancel_first else "SUCCESS")
            assert finished == (not cancel_first)
            if (job_id, 1) in world.launcher.running:
                world.launcher.end(job_id, 1, STOPPED)
            await world.until(lambda: nothing_lives(world))


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
        assert (view["status"], await world.code_of(job_id)) == ("REVOKED", "deadline_exceeded")
        assert view["deadline"] == pytest.approx(view["created_at"] + 0.5)
        dropped = (world.registry.epoch, {job_id: fence})
        if stage != "waiting":
            await world.until(lambda: dropped in world.launcher.drops)
            await world.until(lambda: nothing_lives(world))


async def test_a_deadline_that_meets_a_full_disk_is_kept_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.jobs.endings.REVOKE_AGAIN_S", 0.05)
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
        assert await world.code_of(job_id) == "deadline_exceeded"


# ---- delete ----


async def test_a_deleted_job_leaves_a_tombstone_and_no_files(tmp_path: Path) -> None:
    """For ever: repeated deletes and restarts change nothing, and strangers learn nothing by deleting."""
    async with World(tmp_path) as world:
        job_id = await world.submit(labelled=labels(tags=["t"]))
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
        assert not await world.finish(running, 1, [])
        assert await world.status(running) == "deleted"


async def test_the_key_of_a_deleted_job_orders_anew_and_its_order_does_not(tmp_path: Path) -> None:
    """A call that is repeated by the transport must not bring a deleted job back."""
    async with World(tmp_path) as world:
        order = submission(idempotency_key="k", body_hash="h")
        await world.registry.submit(order)
        await world.draw(order["job_id"])
        await world.registry.delete(order["job_id"], "ann")
        again = await world.registry.submit(order)
        assert again["error"]["code"] == "deleted"
        anew = await world.registry.submit(submission(idempotency_key="k", body_hash="other"))
        assert not anew["replayed"]
        assert await world.draw(anew["job"]["job_id"])
        assert await world.status(order["job_id"]) == "deleted"


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
