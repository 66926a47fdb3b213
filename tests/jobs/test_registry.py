"""What a client, a watcher, a renderer and an attempt can rely on, over restarts too."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

from serve_app.params import summary_of
from tests.factories import labels, params, submission

from .harness import World, disk_held, turns

# ---- submit ----


async def test_accepted_is_on_disk_before_the_answer(tmp_path: Path) -> None:
    """A second connection sees the row as soon as submit returns."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        with sqlite3.connect(tmp_path / "state" / "jobs.db") as db:
            assert db.execute("SELECT job_id, status FROM jobs").fetchall() == [(job_id, "PENDING")]
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_submit_only_persists_and_a_repeat_changes_nothing(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        order = submission()
        first = await world.registry.submit(order)
        again = await world.registry.submit(order)
        assert first["job"]["job_id"] == again["job"]["job_id"]
        await world.launched(order["job_id"])
        await world.die_and_rise()
        assert (await world.registry.submit(order))["job"]["job_id"] == order["job_id"]
        assert world.registry.stats()["live"] == 1


async def test_cancelling_the_submit_cancels_no_job(tmp_path: Path) -> None:
    """A client that hangs up in the middle leaves one job or none, and the registry goes on."""
    async with World(tmp_path) as world:
        orders = [submission() for _ in range(20)]
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


async def test_hanging_up_in_a_submit_leaves_a_job_that_is_driven(tmp_path: Path) -> None:
    """The client comes back with the same key, and gets the job it ordered, drawn."""
    async with World(tmp_path) as world:
        key: dict[str, Any] = {"idempotency_key": "k", "body_hash": "h"}
        async with disk_held(world):
            call = asyncio.create_task(world.registry.submit(submission(**key)))
            await turns()
            call.cancel()
            await asyncio.wait([call])
        reply = await world.registry.submit(submission(**key))
        assert reply["replayed"]
        assert await world.draw(reply["job"]["job_id"])


async def test_a_full_line_refuses_and_says_when_to_come_back(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1, "max_pending": 2}) as world:
        await world.launched(await world.submit())
        orders = [submission(idempotency_key=f"k{i}", body_hash="b") for i in range(8)]
        replies = await asyncio.gather(*(world.registry.submit(order) for order in orders))
        accepted = [reply for reply in replies if "job" in reply]
        refused = [reply for reply in replies if "error" in reply]
        assert len(accepted) == 2
        assert {reply["error"]["code"] for reply in refused} == {"queue_full"}
        assert all(reply["retry_after"] >= 1 for reply in refused)
        replay = await world.registry.submit(submission(idempotency_key="k0", body_hash="b"))
        assert replay["replayed"], "a repeat of an accepted order is answered even then"


async def test_a_late_submit_leaves_no_ghost(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        order = submission(deadline=time.time() - 1)
        reply = await world.registry.submit(order)
        assert reply.get("error", {}).get("code") == "too_late"
        assert await world.registry.get(order["job_id"]) is None


async def test_an_idempotency_key_replays_for_its_owner_only(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        key: dict[str, Any] = {"idempotency_key": "k", "body_hash": "h"}
        orders = [submission(**key) for _ in range(5)]
        replies = await asyncio.gather(*(world.registry.submit(order) for order in orders))
        assert len({reply["job"]["job_id"] for reply in replies if "job" in reply}) == 1
        other_body = await world.registry.submit(submission(idempotency_key="k", body_hash="x"))
        assert other_body.get("error", {}).get("code") == "idempotency_key_reuse"
        bob = await world.registry.submit(submission(owner="bob", **key))
        assert not bob["replayed"]


async def test_an_idempotency_key_is_forgotten_after_its_time(tmp_path: Path) -> None:
    async with World(tmp_path, {"idempotency_s": 0}) as world:
        key: dict[str, Any] = {"idempotency_key": "k", "body_hash": "h"}
        first = await world.registry.submit(submission(**key))
        second = await world.registry.submit(submission(**key))
        assert first["job"]["job_id"] != second["job"]["job_id"]


async def test_a_store_that_cannot_write_refuses_and_recovers(tmp_path: Path) -> None:
    """A full disk: submits are refused, what runs is not lost, and later everything goes on."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        running = await world.submit()
        await world.started(running)
        store = world.registry._store
        page_count = await store._write(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
        await store._write(
            lambda db: db.execute(f"PRAGMA max_page_count = {page_count}").fetchone()
        )
        big = params(prompt="x" * 200_000)
        reply = await world.registry.submit(submission(big))
        assert reply.get("error", {}).get("code") == "storage_failed"
        await store._write(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
        assert await world.draw(running)
        await world.draw(await world.submit(big))


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
