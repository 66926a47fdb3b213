"""Batches: accepted whole or not at all, made only where something is missing, counted as their jobs move."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from serve_app.encoding import decoded_views
from serve_app.jobs import batches
from serve_app.messages import Again, BatchSubmission, BatchView
from tests.factories import batch_row, batch_submission, labels, new_id, params
from tests.jobs.harness import World, disk_held, nothing_lives


async def taken(world: World, order: BatchSubmission | None = None, **changes: Any) -> BatchView:
    reply = await world.registry.submit_batch(order or batch_submission(**changes))
    assert "batch" in reply, reply
    return reply["batch"]


async def refused(world: World, order: BatchSubmission) -> str:
    reply = await world.registry.submit_batch(order)
    assert "error" in reply, reply
    return reply["error"]["code"]


async def look(world: World, batch: BatchView) -> BatchView:
    found = await world.registry.batch(batch["batch_id"], "ann")
    assert found is not None
    assert "gone" not in found
    return found


async def jobs_of(world: World, batch: BatchView) -> list[str]:
    """By row."""
    rows = await world.registry.batch_rows(batch["batch_id"], "ann", 0, 100, False)
    return [row["job"]["job_id"] for row in rows if row["job"] is not None]


def counted(view: BatchView) -> dict[str, int]:
    return {status: count for status, count in view["counts"].items() if count}


async def test_a_batch_is_drawn_row_by_row_and_says_how_far_it_is(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        batch = await taken(world)
        assert (batch["size"], counted(batch)) == (3, {"PENDING": 3})
        assert batch["status"] == "PENDING"
        jobs = await jobs_of(world, batch)
        now = batch
        for drawn, job_id in enumerate(jobs, 1):
            assert await world.draw_next() == job_id, "in the order of their rows"
            now = await look(world, batch)
            assert now["counts"]["SUCCESS"] == drawn
            assert now["rev"] != batch["rev"]
        assert now["status"] == "SUCCESS"
        assert now["completed_at"] is not None
        await world.idle()
        assert nothing_lives(world)


async def test_what_a_batch_of_the_same_name_has_made_is_not_made_again(tmp_path: Path) -> None:
    """Neither is what one makes now; a row that failed, or that is new, is."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        first = await taken(world)
        made, failed, waiting = await jobs_of(world, first)
        await world.draw_next()
        await world.started(failed)
        await world.fail(failed, 1)
        second = await taken(world, seeds=[3, 1, 9, 2])
        assert second["reused_rows"] == [(1, 2)]
        assert (await jobs_of(world, second))[:2] == [waiting, made]
        assert second["counts"]["SUCCESS"] == 1
        other = await taken(world, name="swords")
        assert other["reused"] == 0
        anew = await taken(world, reuse=False)
        assert anew["reused"] == 0
        bobs = batch_submission(owner="bob")
        reply = await world.registry.submit_batch(bobs)
        assert "batch" in reply
        assert reply["batch"]["reused"] == 0


async def test_the_same_batch_again_draws_nothing_and_is_done_at_once(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        first = await taken(world)
        for _ in range(3):
            await world.draw_next()
        again = await taken(world)
        assert again["reused_rows"] == [(1, 3)]
        assert again["completed_at"] is not None
        assert await jobs_of(world, again) == await jobs_of(world, first)
        assert world.registry.stats()["live"] == 0


async def test_a_repeated_call_and_a_repeated_key_find_the_same_batch(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        order = batch_submission(idempotency_key="k", body_hash="a")
        batch = await taken(world, order)
        assert (await taken(world, order))["batch_id"] == batch["batch_id"]
        order["batch_id"] = new_id()
        reply = await world.registry.submit_batch(order)
        assert "batch" in reply
        assert reply.get("replayed")
        assert reply["batch"]["batch_id"] == batch["batch_id"]
        other = batch_submission(idempotency_key="k", body_hash="b")
        assert await refused(world, other) == "idempotency_key_reuse"
        assert world.registry.stats()["live"] == 3


async def test_a_batch_over_the_cap_is_refused_whole_and_told_what_is_allowed(
    tmp_path: Path,
) -> None:
    async with World(tmp_path, {"max_pending": 10, "max_in_flight": 0}) as world:
        await taken(world, size=8, name="")
        reply = await world.registry.submit_batch(batch_submission(size=3, name=""))
        assert "error" in reply
        assert reply["error"]["code"] == "queue_full"
        assert "3 jobs" in reply["error"]["detail"]
        assert "2 more" in reply["error"]["detail"]
        assert reply.get("retry_after")
        assert world.registry.stats()["waiting"] == 8
        bobs = await world.registry.submit_batch(batch_submission(owner="bob", size=5, name=""))
        assert "batch" in bobs, "half of the line is his share"


async def test_jobs_that_are_reused_need_no_place_in_line(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_pending": 4, "max_in_flight": 0}) as world:
        await taken(world, size=3)
        assert (await taken(world, size=4))["reused"] == 3


async def test_a_batch_that_comes_too_late_leaves_nothing(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 0}) as world:
        assert await refused(world, batch_submission(deadline=time.time() - 1)) == "too_late"
        late = batch_submission(deadline=time.time() + 0.05)
        async with disk_held(world):
            waiting = asyncio.create_task(refused(world, late))
            await world.until(lambda: time.time() > late["deadline"])
        assert await waiting == "too_late"
        assert (await world.registry.page("ann", {}, 10, None, None))["jobs"] == []
        assert world.registry.stats()["live"] == 0


async def test_a_commit_that_took_too_long_is_taken_back(tmp_path: Path, monkeypatch: Any) -> None:
    """The client was told that it failed."""
    monkeypatch.setattr(batches, "ANSWERED_S", -60.0)
    async with World(tmp_path) as world:
        late = batch_submission()
        assert await refused(world, late) == "too_late"
        assert (await world.registry.page("ann", {}, 10, None, None))["jobs"] == []
        assert await refused(world, late) == "deleted", "nor does the transport's repeat bring it"


async def test_a_restart_goes_on_with_a_batch(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        batch = await taken(world)
        await world.draw_next()
        await world.die_and_rise()
        for _ in range(2):
            await world.draw_next()
        assert counted(await look(world, batch)) == {"SUCCESS": 3}


async def test_a_deadline_counts_for_every_row(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 0}) as world:
        batch = await taken(world, cancel_after_s=0.01)
        for job_id in await jobs_of(world, batch):
            await world.ended(job_id)
            assert await world.code_of(job_id) == "deadline_exceeded"
        assert (await look(world, batch))["status"] == "REVOKED"


async def test_cancelling_a_batch_revokes_what_lives(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1, "max_pending": 600}) as world:
        batch = await taken(world, size=600)
        await world.draw_next()
        assert await world.registry.cancel_batch(batch["batch_id"], "bob") is None
        cancelled = await world.registry.cancel_batch(batch["batch_id"], "ann")
        assert cancelled is not None
        assert "gone" not in cancelled
        assert counted(cancelled) == {"SUCCESS": 1, "REVOKED": 599}
        assert cancelled["completed_at"] is not None
        await world.idle()
        assert nothing_lives(world)


@pytest.mark.parametrize("cancelled_first", [0, 1])
async def test_cancelling_leaves_what_another_batch_stands_for_too(
    tmp_path: Path, cancelled_first: int
) -> None:
    """Whoever ordered it first: the edited file goes on when the older batch is cancelled, and the older one
    when the edited file is. With the last of them the job ends."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        both = [await taken(world, seeds=[1, 2]), await taken(world, seeds=[2, 3])]
        shared = (await jobs_of(world, both[1]))[0]
        assert (await jobs_of(world, both[0]))[1] == shared
        cancelled, other = both[cancelled_first], both[1 - cancelled_first]
        found = await world.registry.cancel_batch(cancelled["batch_id"], "ann")
        assert found is not None
        assert "gone" not in found
        assert (found["status"], counted(found)) == ("REVOKED", {"REVOKED": 2})
        assert found["completed_at"] is not None
        assert await world.status(shared) in ("PENDING", "STARTED")
        assert counted(await look(world, other))["PENDING"] >= 1
        await world.registry.cancel_batch(other["batch_id"], "ann")
        assert await world.status(shared) == "REVOKED"
        await world.idle()
        assert nothing_lives(world)


async def test_a_retry_takes_up_a_job_that_was_left(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        first, second = await taken(world, seeds=[1]), await taken(world, seeds=[1])
        (job_id,) = await jobs_of(world, first)
        await world.registry.cancel_batch(first["batch_id"], "ann")
        (row,) = await world.registry.batch_rows(first["batch_id"], "ann", 0, 9, True)
        assert row["job"] is not None
        assert (row["status"], row["job"]["job_id"]) == ("REVOKED", job_id)
        new = batch_row(params(seed=1), labels(retry_of=job_id), key=row["key"])
        again = Again(row=1, instead_of=job_id, order=new)
        reply = await world.registry.retry_batch(
            {
                "batch_id": first["batch_id"],
                "owner": "ann",
                "rows": [again],
                "deadline": time.time() + 60,
            }
        )
        assert "batch" in reply
        assert reply["batch"]["completed_at"] is None
        assert await jobs_of(world, first) == [job_id]
        assert await world.draw_next() == job_id
        for batch in (first, second):
            assert counted(await look(world, batch)) == {"SUCCESS": 1}


async def test_whoever_watches_is_told_of_the_batch_and_not_of_each_waiting_job(
    tmp_path: Path,
) -> None:
    async with World(tmp_path, {"max_in_flight": 0, "max_pending": 1000}) as world:
        at = await world.registry.watch(0, 0, 0)
        batch = await taken(world, size=700)
        told = await world.registry.watch(at["epoch"], at["seq"], 0)
        assert [one["batch_id"] for one in told.get("batches", [])] == [batch["batch_id"]]
        assert decoded_views(told["views"]) == []
        assert (await world.registry.watch(told["epoch"], told["seq"], 0)).get("batches") == []
        await world.registry.cancel_batch(batch["batch_id"], "ann")
        states: list[str] = []
        while not states:
            told = await world.registry.watch(told["epoch"], told["seq"], 0)
            states = [one["status"] for one in told.get("batches", [])]
        assert states == ["REVOKED"]


async def test_a_key_finds_its_batch_without_another_order(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        batch = await taken(world, idempotency_key="k", body_hash="a")
        known = await world.registry.known_batch("ann", "k", "a")
        assert known is not None
        assert "batch" in known
        assert (known["batch"]["batch_id"], known.get("replayed")) == (batch["batch_id"], True)
        for owner, key, body in ("bob", "k", "a"), ("ann", "l", "a"), ("ann", "k", "b"):
            assert await world.registry.known_batch(owner, key, body) is None
        limits = world.registry._intake
        limits.idempotency_s = -60.0
        assert await world.registry.known_batch("ann", "k", "a") is None, "its time is over"


async def test_only_what_was_lost_is_ordered_again(tmp_path: Path) -> None:
    """A call that the transport repeats orders nothing twice; the old jobs stay as they ended."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        batch = await taken(world)
        made, failed, revoked = await jobs_of(world, batch)
        await world.draw_next()
        await world.started(failed)
        await world.fail(failed, 1)
        await world.registry.cancel(revoked, "ann")
        before = await look(world, batch)
        (told,) = before["failed"]
        assert (told["row"], told["job_id"], told["error"]["code"]) == (2, failed, "non_finite")

        lost = await world.registry.batch_rows(batch["batch_id"], "ann", 0, 10, True)
        assert [row["row"] for row in lost] == [2, 3]
        again: Any = {
            "batch_id": batch["batch_id"],
            "owner": "ann",
            "deadline": time.time() + 60,
            "rows": [
                Again(
                    row=row["row"],
                    instead_of=row["job"]["job_id"],
                    order=batch_row(
                        params(seed=row["job"]["summary"]["seed"]),
                        labels(retry_of=row["job"]["job_id"]),
                        key=row["key"],
                    ),
                )
                for row in lost
                if row["job"] is not None
            ],
        }
        for _ in range(2):
            reply = await world.registry.retry_batch(again)
            assert "batch" in reply
            assert counted(reply["batch"]) == {"PENDING": 2, "SUCCESS": 1}
        now = await jobs_of(world, batch)
        assert now[0] == made
        assert not {failed, revoked} & set(now)
        assert await world.status(failed) == "FAILURE"
        for _ in range(2):
            await world.draw_next()
        assert counted(await look(world, batch)) == {"SUCCESS": 3}


async def test_a_batch_goes_with_its_last_job(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        batch = await taken(world)
        jobs = await jobs_of(world, batch)
        for job_id in jobs[:2]:
            await world.registry.delete(job_id, "ann")
        assert (await look(world, batch))["counts"]["DELETED"] == 2
        await world.registry.delete(jobs[2], "ann")
        stone = await world.registry.batch(batch["batch_id"], "ann")
        assert stone == {"job_id": batch["batch_id"], "owner": "ann", "gone": "deleted"}
        assert await world.registry.batch(batch["batch_id"], "bob") is None


async def test_batches_are_listed_newest_first_and_counted_by_state(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 0}) as world:
        made = [await taken(world, name=f"b{i % 2}", seeds=[i]) for i in range(5)]
        await world.registry.cancel_batch(made[2]["batch_id"], "ann")
        ids = [batch["batch_id"] for batch in reversed(made)]
        first = await world.registry.batches("ann", {}, 2, None, None)
        assert [b["batch_id"] for b in first["batches"]] == ids[:2]
        rest = await world.registry.batches("ann", {}, 10, first["older"], None)
        assert [b["batch_id"] for b in rest["batches"]] == ids[2:]
        back = await world.registry.batches("ann", {}, 10, None, rest["newer"])
        assert [b["batch_id"] for b in back["batches"]] == ids[:2]
        revoked = await world.registry.batches("ann", {"statuses": ["REVOKED"]}, 10, None, None)
        assert [b["batch_id"] for b in revoked["batches"]] == [made[2]["batch_id"]]
        odd = await world.registry.batches("ann", {"name": "b1"}, 10, None, None)
        assert [b["batch_id"] for b in odd["batches"]] == [made[3]["batch_id"], made[1]["batch_id"]]
        assert (await world.registry.batches("bob", {}, 10, None, None))["batches"] == []


async def test_jobs_are_listed_by_batch(tmp_path: Path) -> None:
    """Those that it reuses, too; and no other owner sees them."""
    async with World(tmp_path, {"max_in_flight": 0}) as world:
        first = await taken(world, seeds=[1, 2])
        await world.submit()
        second = await taken(world, seeds=[1, 5])
        page = await world.registry.page("ann", {"batch_id": second["batch_id"]}, 10, None, None)
        found = {job["job_id"] for job in page["jobs"]}
        assert found == set(await jobs_of(world, second))
        assert found & set(await jobs_of(world, first))
        theirs = await world.registry.page("bob", {"batch_id": second["batch_id"]}, 10, None, None)
        assert theirs["jobs"] == []


async def test_a_plan_says_what_a_batch_would_do_and_does_nothing(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 0}) as world:
        order = batch_submission(seeds=[1, 2])
        await taken(world, order)
        keys = [row["key"] for row in batch_submission(seeds=[2, 7, 1])["rows"]]
        plan = await world.registry.plan_batch("ann", "potions", keys, {"tiny": (3, 3.0)})
        assert plan["reused_rows"] == [(1, 1), (3, 3)]
        assert plan["room"] == 98
        unnamed = await world.registry.plan_batch("ann", "", keys, {"tiny": (3, 3.0)})
        assert unnamed["reused_rows"] == []
        assert world.registry.stats()["live"] == 2


async def test_a_batch_counts_for_fairness_as_the_sum_of_its_work(tmp_path: Path) -> None:
    """Another client's single order waits for one job of the batch and not for all of them."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        await taken(world, size=20)
        await world.until(lambda: world.launcher.running)
        bobs = await world.submit(labelled=labels(client="bob"), owner="bob")
        await world.draw_next()
        assert bobs in [await world.draw_next(), await world.draw_next()]


async def test_after_a_restart_what_was_made_is_known(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await taken(world)
        for _ in range(3):
            await world.draw_next()
        await world.die_and_rise()
        again = await taken(world)
        assert again["reused_rows"] == [(1, 3)]
        assert again["status"] == "SUCCESS"
