"""A job's status moves as its table says and in no other way; its view says what a client may know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serve_app.jobs import job as job_module
from serve_app.jobs.job import MOVES, Status
from serve_app.priorities import HEAD_START_S
from tests import factories

from .harness import ERROR, Moves, World

TABLE = {(old, new) for old, targets in MOVES.items() for new in targets}
NOT_IN_TABLE = {(old, new) for old in Status for new in Status if new is not old} - TABLE


# ---- moves ----


def test_the_table_that_people_read_is_the_one_that_code_reads() -> None:
    """Each line of it: states, the state that follows, and a reason."""
    lines = (job_module.__doc__ or "").splitlines()
    rows = [re.fullmatch(r"    ([A-Z, ]+[A-Z]) {2,}([A-Z]+) {2,}\S.*", line) for line in lines]
    drawn = [(Status(old), Status(row[2])) for row in rows if row for old in row[1].split(", ")]
    assert sorted(drawn) == sorted(TABLE)


def test_every_state_is_in_the_table_and_nothing_follows_an_end() -> None:
    assert MOVES.keys() == set(Status)
    assert {status for status in Status if not MOVES[status]} == {
        status for status in Status if status.terminal
    }
    assert not any(status.terminal and status.waiting for status in Status)


async def bring(world: World, job_id: str, status: Status) -> int:
    """An attempt at the job runs, and the job is in that state; the attempt's fence."""
    if status is Status.RETRY:
        await world.launched(job_id)
        world.launcher.end(job_id, 1, None)
    fence = 2 if status is Status.RETRY else 1
    await world.launched(job_id, fence)
    if status is Status.STARTED:
        assert await world.registry.admitted(job_id, fence)
    assert await world.status(job_id) == status
    return fence


@pytest.mark.parametrize(("old", "new"), sorted(TABLE))
async def test_every_move_of_the_table_happens(tmp_path: Path, old: Status, new: Status) -> None:
    """A watcher sees it, and the database keeps it."""
    moves = Moves()
    async with World(tmp_path, moves=moves) as world:
        job_id = await world.submit()
        fence = await bring(world, job_id, old)
        match new:
            case Status.STARTED:
                assert await world.registry.admitted(job_id, fence)
            case Status.SUCCESS:
                assert await world.finish(job_id, fence, [world.files.put(job_id, fence)])
            case Status.FAILURE:
                assert await world.fail(job_id, fence, ERROR)
            case Status.REVOKED:
                assert await world.registry.cancel(job_id, "ann")
            case _:
                world.launcher.end(job_id, fence, None)
        await world.until(lambda: (old, new) in moves.seen)
        assert moves.seen <= TABLE
        await world.die_and_rise()
        kept = Status.RETRY if new is Status.STARTED else new
        assert await world.status(job_id) == kept
        await world.until(lambda: moves.known[job_id] is kept)
        assert moves.seen <= TABLE


@pytest.mark.parametrize("old", [Status.PENDING, Status.RETRY])
async def test_an_end_that_overtakes_the_report_of_its_beginning_has_both(
    tmp_path: Path, old: Status
) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        fence = await bring(world, job_id, old)
        assert await world.finish(job_id, fence, [factories.image_file()])
        view = await world.look(job_id)
        assert view["started_at"] is not None
        assert view["completed_at"] is not None
        assert view["created_at"] <= view["started_at"] <= view["completed_at"]
        assert not await world.registry.admitted(job_id, fence)  # now it comes
        assert await world.status(job_id) == "SUCCESS"


def test_moves_that_are_not_in_the_table_are_those_nobody_wants() -> None:
    """So that whoever adds one thinks twice."""
    live = {Status.PENDING, Status.STARTED, Status.RETRY}
    assert {move for move in NOT_IN_TABLE if move[0] in live} == {
        (Status.STARTED, Status.PENDING),
        (Status.RETRY, Status.PENDING),
    }


# ---- what it says of itself ----


@pytest.mark.parametrize("priority", list(HEAD_START_S))
def test_a_priority_moves_a_job_by_its_head_start(priority: str) -> None:
    one = factories.job(labelled=factories.labels(priority=priority), number=5_000_000_000)
    assert one.place == 5_000_000_000 + HEAD_START_S[priority] * 1e6


def test_a_job_reads_its_client_and_its_work_from_what_was_stamped_at_submit() -> None:
    labels, summary = factories.labels(client="build"), factories.summary(work=7.5)
    one = factories.job(labelled=labels, summary=summary)
    assert (one.client, one.priority, one.work) == ("build", "normal", 7.5)


def test_a_view_of_a_waiting_job_says_where_and_why_it_waits() -> None:
    waiting = factories.job()
    view = waiting.view(3, position=2, eta=4.0, paused="storage")
    assert (view["queue_position"], view["eta_seconds"]) == (2, 4.0)
    assert view["waiting_for"] == "storage"
    assert waiting.view(3)["waiting_for"] == "turn"
    assert waiting.evolve(waiting_for="model").view(3, paused="storage")["waiting_for"] == "model"
    assert waiting.evolve(seq=9).view(3)["rev"] == "3.9"


def test_a_view_of_a_job_that_runs_or_has_ended_has_no_place_in_line() -> None:
    job = factories.job(created_at=10.0, status=Status.STARTED, started_at=11.5)
    view = job.view(1, position=2, eta=4.0)
    assert (view["queue_position"], view["waiting_for"], view["eta_seconds"]) == (None, None, 4.0)
    assert (view["queue_ms"], view["execution_ms"]) == (1500, None)
    assert view["expires_at"] is None
    ended = job.evolve(status=Status.SUCCESS, completed_at=11.25)  # by a clock that was put back
    view = ended.view(1, position=2, eta=4.0, retention_s=60)
    assert (view["queue_position"], view["eta_seconds"]) == (None, None)
    assert (view["execution_ms"], view["expires_at"]) == (0, 71.25)
    assert ended.view(1)["expires_at"] is None


def test_a_view_carries_the_order_as_it_was_given() -> None:
    labels = factories.labels(tags=["a"], metadata={"b": 1}, retry_of="other")
    one = factories.job(labelled=labels, error=ERROR, images=(factories.image_file(),))
    view = one.view(1)
    assert (view["labels"], view["params"]) == (labels, one.params)
    assert (view["error"], view["images"]) == (ERROR, [factories.image_file()])
