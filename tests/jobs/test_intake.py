"""What becomes of an order: a job on disk, the same job again, or a refusal that says why."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs.job import Job
from serve_app.jobs.store.sqlite import Inserted
from tests.factories import labels, params, submission

from .harness import World, disk_held, nothing_lives, turns


async def test_accepted_is_on_disk_before_the_answer(tmp_path: Path) -> None:
    """A second connection sees the row as soon as submit returns."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        with closing(sqlite3.connect(tmp_path / "state" / "jobs.db")) as db:
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


async def test_a_submit_that_waited_too_long_for_the_disk_leaves_no_ghost(tmp_path: Path) -> None:
    """It came in time, and its turn to be written came after its deadline."""
    async with World(tmp_path) as world:
        order = submission()
        async with disk_held(world):
            submitting = asyncio.create_task(world.registry.submit(order))
            await turns()
            order["deadline"] = time.time() - 1  # as if the disk had stood still until now
        assert (await submitting).get("error", {}).get("code") == "too_late"
        assert await world.registry.get(order["job_id"]) is None
        assert nothing_lives(world)


class Wall:
    """`time` whose wall clock a test has put somewhere."""

    def __init__(self) -> None:
        self._now = time.time()

    def put(self, now: float) -> None:
        self._now = now

    def time(self) -> float:
        return self._now


async def test_a_commit_that_took_too_long_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write was begun in time, and ended when its client had been told that it failed. Under a key it
    stays, since the client may come again for it."""
    async with World(tmp_path, {"max_in_flight": 0}) as world:
        monkeypatch.setattr("serve_app.jobs.intake.time", wall := Wall())
        order = submission()
        kept = submission(idempotency_key="k", body_hash="h", deadline=order["deadline"] + 60)
        deadlines = {one["job_id"]: one["deadline"] for one in (order, kept)}
        store, insert = world.registry._store, world.registry._store.insert

        async def slow(job: Job, **how: Any) -> Inserted | str:
            inserted = await insert(job, **how)
            wall.put(deadlines[job.job_id] + 10)
            return inserted

        store.insert = slow
        refused, taken = [await world.registry.submit(one) for one in (order, kept)]
        assert refused.get("error", {}).get("code") == "too_late"
        assert "job" in taken
        assert await world.status(order["job_id"]) == "deleted"
        assert world.registry.stats()["live"] == 1


async def test_a_repeated_submit_finds_its_row_however_late_it_is(tmp_path: Path) -> None:
    """The registry died between the commit and the answer, and the transport asks the next one."""
    async with World(tmp_path, {"max_in_flight": 0, "cached_jobs": 1}) as world:
        order = submission()
        await world.registry.submit(order)
        await world.die_and_rise()
        order["deadline"] = time.time() - 1
        reply = await world.registry.submit(order)
        assert "job" in reply
        assert reply["job"]["job_id"] == order["job_id"]


async def test_an_owner_has_a_share_of_the_line_that_nobody_can_take(tmp_path: Path) -> None:
    """However many jobs of however many clients another one orders."""
    async with World(tmp_path, {"max_in_flight": 0, "max_pending": 6}) as world:

        async def accepted(owner: str, orders: int) -> int:
            replies = await asyncio.gather(
                *(
                    world.registry.submit(submission(None, labels(client=f"c{i}"), owner=owner))
                    for i in range(orders)
                )
            )
            return sum("job" in reply for reply in replies)

        assert await accepted("ann", 20) == 6, "alone, one may use the whole line"
        assert await accepted("bob", 20) == 3
        assert await accepted("cid", 20) == 2
        assert await accepted("ann", 20) == 0
        await world.die_and_rise()
        assert await accepted("bob", 20) == 0, "the next life counts them, too"
        assert await accepted("dot", 20) == 2


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
