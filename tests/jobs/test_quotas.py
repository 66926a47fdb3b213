"""An owner may have so much and no more; whoever has used it up is told what, and when to come again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs.store.used import DAY_S
from serve_app.messages import Allowance, JobError, SubmitReply
from tests.factories import batch_row, batch_submission, params, submission, without_renderer
from tests.jobs.harness import World


def error_of(reply: SubmitReply | Any) -> JobError:
    assert "error" in reply, reply
    return reply["error"]


async def test_so_many_jobs_may_wait(tmp_path: Path) -> None:
    """However many are sent at once; those of a batch too, but for the ones that exist already."""
    quota = Allowance(waiting_jobs=3)
    async with World(tmp_path, {"max_in_flight": 0}) as world:
        for _ in range(2):
            assert "job" in await world.registry.submit(submission(quota=quota))
        batch = batch_submission(size=2, quota=quota)
        told = await world.registry.submit_batch(batch)
        assert error_of(told)["code"] == "quota_waiting_jobs"
        assert "2 of your jobs wait, of 3; this makes 2 more" in error_of(told)["detail"]
        assert told.get("retry_after")
        assert "batch" in await world.registry.submit_batch(batch_submission(size=1, quota=quota))
        full = await world.registry.submit(submission(quota=quota))
        assert error_of(full)["code"] == "quota_waiting_jobs"
        reused = await world.registry.submit_batch(batch_submission(size=1, quota=quota))
        assert "batch" in reused, "nothing new waits"
        theirs = submission(owner="ben", quota=quota)
        assert "job" in await world.registry.submit(theirs)
        assert (await world.registry.usage("ann"))["waiting_jobs"] == 3


async def test_more_than_may_ever_wait_is_not_to_be_tried_again(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 0}) as world:
        batch = batch_submission(size=4, quota=Allowance(waiting_jobs=3))
        told = await world.registry.submit_batch(batch)
        assert "retry_after" not in told
        assert world.registry.stats()["live"] == 0


@pytest.mark.parametrize("name", ["waiting_jobs", "device_seconds", "kept_bytes"])
async def test_a_quota_of_zero_is_a_clear_refusal(tmp_path: Path, name: str) -> None:
    quota: Any = {name: 0}
    async with World(tmp_path) as world:
        for reply in (
            await world.registry.submit(submission(quota=quota)),
            await world.registry.submit_batch(batch_submission(quota=quota)),
        ):
            error = error_of(reply)
            assert (error["code"], error["retryable"]) == (f"quota_{name}", False)
            assert f"{name} is 0" in error["detail"]
            assert "retry_after" not in reply
        assert world.registry.stats()["live"] == 0


async def test_a_repeated_key_finds_its_job_whatever_was_used_since(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 0}) as world:
        quota = Allowance(waiting_jobs=1)
        order = submission(idempotency_key="k", body_hash="a", quota=quota)
        first = await world.registry.submit(order)
        again = await world.registry.submit(
            submission(idempotency_key="k", body_hash="a", quota=quota)
        )
        assert "job" in first
        assert "job" in again
        assert again["job"]["job_id"] == first["job"]["job_id"]


async def test_device_seconds_are_those_that_were_used_and_those_that_wait(tmp_path: Path) -> None:
    """A second a job here, and six may be used. What needs no device is not bounded."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        one = params()
        job_id = await world.submit(one)
        await world.launched(job_id)
        await world.registry.admitted(job_id, 1, solo_seconds=1.0)
        quota = Allowance(device_seconds=6)
        rows = [batch_row(one.model_copy(update={"seed": seed})) for seed in range(5)]
        told = await world.registry.submit_batch(batch_submission(*rows, quota=quota))
        assert "batch" in told, "with the one that runs, six"
        reply = await world.registry.submit(submission(one, quota=quota))
        assert error_of(reply)["code"] == "quota_device_seconds"
        assert 0 < reply.get("retry_after", 0) <= DAY_S
        derived = without_renderer(quota=quota)
        assert "job" in await world.registry.submit(derived)
        await world.registry.cancel_batch(told["batch"]["batch_id"], "ann")
        await world.registry.cancel(job_id, "ann")
        usage = await world.registry.usage("ann")
        assert 0 < usage["device_seconds"] <= 1.0, "a job that began has used what it ran"
        assert "job" in await world.registry.submit(submission(one, quota=quota))


async def test_device_seconds_of_a_batch_are_those_of_its_new_rows(tmp_path: Path) -> None:
    """Five are there; of the six that are ordered again one is new, and seven seconds are allowed."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        one = params()
        job_id = await world.submit(one)
        await world.launched(job_id)
        await world.registry.admitted(job_id, 1, solo_seconds=1.0)
        quota = Allowance(device_seconds=7)
        rows = [batch_row(one.model_copy(update={"seed": seed})) for seed in range(8)]
        assert "batch" in await world.registry.submit_batch(
            batch_submission(*rows[:5], quota=quota)
        )
        again = [batch_row(one.model_copy(update={"seed": seed})) for seed in range(8)]
        reply = await world.registry.submit_batch(batch_submission(*again, quota=quota))
        assert (
            "What is new of this takes 3 device seconds, and 1 of your 7"
            in error_of(reply)["detail"]
        )
        again = [batch_row(one.model_copy(update={"seed": seed})) for seed in range(6)]
        assert "batch" in await world.registry.submit_batch(batch_submission(*again, quota=quota))


async def test_orders_that_come_together_share_what_is_left(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        one = params()
        job_id = await world.submit(one)
        await world.launched(job_id)
        await world.registry.admitted(job_id, 1, solo_seconds=1.0)
        quota = Allowance(device_seconds=3)
        orders = (world.registry.submit(submission(one, quota=quota)) for _ in range(6))
        replies = await asyncio.gather(*orders)
        assert sum("job" in reply for reply in replies) == 2, "with the one that runs, three"


async def test_what_a_whole_day_has_no_room_for_is_not_to_be_tried_again(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        one = params()
        job_id = await world.submit(one)
        await world.launched(job_id)
        await world.registry.admitted(job_id, 1, solo_seconds=3.0)
        reply = await world.registry.submit(submission(one, quota=Allowance(device_seconds=2)))
        assert error_of(reply)["code"] == "quota_device_seconds"
        assert "retry_after" not in reply


async def test_files_that_are_kept_count_until_they_are_deleted(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.draw_next()
        kept = (await world.registry.usage("ann"))["kept_bytes"]
        assert kept > 0
        quota = Allowance(kept_bytes=kept)
        reply = await world.registry.submit(submission(quota=quota))
        assert error_of(reply)["code"] == "quota_kept_bytes"
        assert "Delete jobs first" in error_of(reply)["detail"]
        await world.registry.delete(job_id, "ann")
        assert "job" in await world.registry.submit(submission(quota=quota))
