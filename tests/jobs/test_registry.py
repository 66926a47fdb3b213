"""The registry keeps DESIGN section 5; each test names the point it stands for."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve_app.errors import StoreHeld
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import JobError

from .harness import DIED, PARAMS, RELEASED, STOPPED, World, new_order, turns


async def test_point_1_accepted_is_on_disk_before_the_answer(tmp_path: Path) -> None:
    """A second connection sees the row as soon as submit returns."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        with sqlite3.connect(tmp_path / "state" / "jobs.db") as db:
            assert db.execute("SELECT job_id, status FROM jobs").fetchall() == [(job_id, "PENDING")]
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_point_1_every_accepted_job_ends_once_after_a_restart(tmp_path: Path) -> None:
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


async def test_point_2_a_superseded_attempt_cannot_publish(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        world.launcher.end(job_id, 1, None)
        await world.started(job_id, 2)
        assert not await world.registry.finish(job_id, 1, [world.files.put(job_id, 1)])
        assert not await world.registry.admitted(job_id, 1)
        assert not await world.registry.progress(job_id, 1, {})
        assert await world.draw(job_id, 2)
        assert not await world.registry.finish(job_id, 1, [world.files.put(job_id, 1)])


async def test_point_2_finish_may_be_repeated(tmp_path: Path) -> None:
    """Ray re-sends calls whose answer was lost, even to a restarted registry."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        image = world.files.put(job_id, 1)
        assert await world.registry.finish(job_id, 1, [image])
        assert await world.registry.finish(job_id, 1, [image])
        assert not await world.registry.fail(job_id, 1, error())
        await world.die_and_rise()
        assert await world.registry.finish(job_id, 1, [image])
        assert await world.status(job_id) == "SUCCESS"


async def test_point_2_losers_files_are_swept_at_start(tmp_path: Path) -> None:
    """Files of attempts that lost go; published ones, and files of unknown jobs, stay."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        world.launcher.end(job_id, 1, None)
        await world.draw(job_id, 2)
        await world.idle()
        world.files.put(job_id, 1)  # by a task that outlived its registry for a moment
        world.files.put("someone-elses", 1)
        await world.die_and_rise()
        await world.until(lambda: f"{job_id}_1.png" not in world.files.names())
        assert world.files.names() == sorted([f"{job_id}_2.png", "someone-elses_1.png"])


async def test_point_3_submit_only_persists_and_a_repeat_changes_nothing(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        order = new_order()
        first = await world.registry.submit(order)
        again = await world.registry.submit(order)
        assert first["job"]["job_id"] == again["job"]["job_id"]
        await world.launched(order["job_id"])
        await world.die_and_rise()
        assert (await world.registry.submit(order))["job"]["job_id"] == order["job_id"]
        assert world.registry.stats()["live"] == 1


async def test_point_3_cancelling_the_submit_cancels_no_job(tmp_path: Path) -> None:
    """A client that hangs up in the middle leaves one job or none, and the registry goes on."""
    async with World(tmp_path) as world:
        orders = [new_order() for _ in range(20)]
        calls = [asyncio.create_task(world.registry.submit(order)) for order in orders]
        await asyncio.gather(*calls[:3])
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        after = await world.submit()
        for order in orders:
            known = await world.registry.get(order["job_id"])
            assert known is None or await world.status(order["job_id"]) == "PENDING"
        await world.die_and_rise()  # whatever was committed is there, and is driven
        await world.launched(orders[0]["job_id"], 2)
        assert await world.status(after) == "PENDING"


async def test_point_4_a_lost_attempt_is_dropped_before_the_next_one_starts(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        drops_before = list(world.launcher.drops)
        world.launcher.end(job_id, 1, None)
        await world.launched(job_id, 2)
        epoch = world.registry.epoch
        assert world.launcher.drops == [*drops_before, (epoch, {job_id: 1})]


async def test_point_4_a_new_epoch_drops_all_that_is_older(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        epoch = world.registry.epoch
        await world.die_and_rise()
        await world.until(lambda: world.launcher.drops)
        assert world.launcher.drops == [(epoch + 1, {})]


async def test_point_4_a_new_renderer_learns_what_is_dead(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        world.launcher.end(job_id, 1, None)
        await world.started(job_id, 2)
        assert world.registry.dropped() == {job_id: 1}
        await world.registry.finish(job_id, 2, [world.files.put(job_id, 2)])
        assert world.registry.dropped() == {job_id: 2}


async def test_point_5_no_more_in_flight_than_allowed(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 3}) as world:
        jobs = [await world.submit() for _ in range(10)]
        await world.launched(jobs[2])
        assert world.registry.stats()["in_flight"] == 3
        await world.draw(jobs[0])
        await world.launched(jobs[3])
        assert [o["job_id"] for o in world.launcher.launched] == jobs[:4]


async def test_point_5_a_full_line_refuses_and_says_when_to_come_back(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1, "max_pending": 2}) as world:
        await world.launched(await world.submit())
        orders = [new_order(idempotency_key=f"k{i}", body_hash="b") for i in range(8)]
        replies = await asyncio.gather(*(world.registry.submit(order) for order in orders))
        accepted = [reply for reply in replies if "job" in reply]
        refused = [reply for reply in replies if "error" in reply]
        assert len(accepted) == 2
        assert {reply["error"]["code"] for reply in refused} == {"queue_full"}
        assert all(reply["retry_after"] >= 1 for reply in refused)
        replay = await world.registry.submit(new_order(idempotency_key="k0", body_hash="b"))
        assert replay["replayed"], "a repeat of an accepted order is answered even then"


async def test_point_6_only_a_replica_death_counts_as_an_attempt(tmp_path: Path) -> None:
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


async def test_point_6_without_a_renderer_dispatch_pauses_and_the_job_says_so(
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


async def test_point_6_without_an_application_nothing_is_launched(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.registry._dispatcher._watched_at = float("-inf")  # pyright: ignore[reportPrivateUsage]
        job_id = await world.submit()
        await asyncio.wait_for(_paused(world, "application"), 5)
        assert not world.launcher.launched
        await world.see_ingress()
        await world.launched(job_id)


async def _paused(world: World, reason: str) -> None:
    while world.registry.stats()["paused"] != reason:
        await asyncio.wait({asyncio.create_task(world.registry.get("x"))})


async def test_point_6_after_a_death_a_job_runs_alone_and_then_fails(tmp_path: Path) -> None:
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


async def test_point_7_a_second_registry_refuses_and_names_the_holder(tmp_path: Path) -> None:
    async with World(tmp_path):
        with pytest.raises(StoreHeld, match=f"process {os.getpid()} on "):
            SqliteStore(tmp_path / "state", lock_timeout_s=0)


def test_point_7_the_lock_of_a_killed_holder_is_free_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from serve_app.jobs.store import SqliteStore\n"
        "store = SqliteStore(Path(sys.argv[1])); print(store.epoch, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "state")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"1\n"
    with pytest.raises(StoreHeld, match=f"process {holder.pid}"):
        SqliteStore(tmp_path / "state", lock_timeout_s=0)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    store = SqliteStore(tmp_path / "state", lock_timeout_s=0)
    assert store.epoch == 2
    asyncio.run(store.close())


async def test_point_7_every_start_is_a_new_epoch(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        first = world.registry.epoch
        await world.die_and_rise()
        assert world.registry.epoch == first + 1


async def test_point_7_drain_launches_nothing_more(tmp_path: Path) -> None:
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


async def test_point_9_memory_is_a_bounded_cache_over_the_store(tmp_path: Path) -> None:
    async with World(tmp_path, {"cached_jobs": 5}) as world:
        jobs = [await world.submit() for _ in range(40)]
        for job_id in jobs:
            await world.draw(job_id)
        await world.idle()
        stats = world.registry.stats()
        assert (stats["live"], stats["cached"], stats["losses"]) == (0, 5, 0)
        assert stats["changes"] <= 64 + 2 * 5
        assert await world.status(jobs[0]) == "SUCCESS"


async def test_a_watcher_sees_every_change_once_and_resyncs_on_a_new_epoch(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        reply = await world.registry.watch(0, 0, 0)
        assert reply["resync"]
        job_id = await world.submit()
        seen = await watched(world, reply["seq"], "PENDING")
        await world.started(job_id)
        seen += await watched(world, seen[-1][0], "STARTED")
        await world.registry.finish(job_id, 1, [world.files.put(job_id, 1)])
        seen += await watched(world, seen[-1][0], "SUCCESS")
        assert len(set(seen)) == len(seen)
        reply = await world.registry.watch(world.registry.epoch, seen[-1][0], 0)
        assert not (await world.registry.watch(world.registry.epoch, reply["seq"], 0))["jobs"]
        await world.die_and_rise()
        assert (await world.registry.watch(reply["epoch"], reply["seq"], 0))["resync"]


async def watched(world: World, seq: int, status: str) -> list[tuple[int, str]]:
    """(cursor, status) of every change up to the first one of this status."""
    seen: list[tuple[int, str]] = []
    async with asyncio.timeout(10):
        while not seen or seen[-1][1] != status:
            reply = await world.registry.watch(world.registry.epoch, seq, 1)
            seq = reply["seq"]
            seen += [(seq, view["status"]) for view in reply["jobs"]]
    return seen


async def test_a_watcher_that_fell_behind_the_cache_resyncs(tmp_path: Path) -> None:
    async with World(tmp_path, {"cached_jobs": 1}) as world:
        cursor = (await world.registry.watch(world.registry.epoch, 0, 0))["seq"]
        for _ in range(3):
            await world.draw(await world.submit())
        reply = await world.registry.watch(world.registry.epoch, cursor, 0)
        assert reply["resync"]
        assert not (await world.registry.watch(world.registry.epoch, reply["seq"], 0))["resync"]


async def test_a_late_submit_leaves_no_ghost(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        order = new_order(deadline=time.time() - 1)
        reply = await world.registry.submit(order)
        assert reply.get("error", {}).get("code") == "too_late"
        assert await world.registry.get(order["job_id"]) is None


async def test_an_idempotency_key_replays_for_its_owner_only(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        key = {"idempotency_key": "k", "body_hash": "h"}
        orders = [new_order(**key) for _ in range(5)]
        replies = await asyncio.gather(*(world.registry.submit(order) for order in orders))
        assert len({reply["job"]["job_id"] for reply in replies if "job" in reply}) == 1
        other_body = await world.registry.submit(new_order(idempotency_key="k", body_hash="x"))
        assert other_body.get("error", {}).get("code") == "idempotency_key_reuse"
        bob = await world.registry.submit(new_order(owner="bob", **key))
        assert not bob["replayed"]


async def test_an_idempotency_key_is_forgotten_after_its_time(tmp_path: Path) -> None:
    async with World(tmp_path, {"idempotency_s": 0}) as world:
        key = {"idempotency_key": "k", "body_hash": "h"}
        first = await world.registry.submit(new_order(**key))
        second = await world.registry.submit(new_order(**key))
        assert first["job"]["job_id"] != second["job"]["job_id"]


async def test_a_failed_job_keeps_its_reason_and_no_files(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.started(job_id)
        world.files.put(job_id, 1)
        assert await world.registry.fail(job_id, 1, error())
        view = await world.look(job_id)
        assert (view["status"], view["error"]) == ("FAILURE", error())
        assert world.files.names() == []


async def test_a_store_that_cannot_write_refuses_and_recovers(tmp_path: Path) -> None:
    """A full disk: submits are refused, what runs is not lost, and later everything goes on."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        running = await world.submit()
        await world.started(running)
        store = world.registry._store  # pyright: ignore[reportPrivateUsage]
        page_count = await store._write(lambda db: db.execute("PRAGMA page_count").fetchone()[0])  # pyright: ignore[reportPrivateUsage]
        await store._write(
            lambda db: db.execute(f"PRAGMA max_page_count = {page_count}").fetchone()
        )  # pyright: ignore[reportPrivateUsage]
        big = {**PARAMS, "prompt": "x" * 200_000}
        reply = await world.registry.submit(new_order(params=big))
        assert reply.get("error", {}).get("code") == "storage_failed"
        await store._write(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())  # pyright: ignore[reportPrivateUsage]
        assert await world.draw(running)
        await world.draw(await world.submit(params=big))


def error() -> JobError:
    return {"code": "non_finite", "title": "t", "detail": "d", "retryable": False}
