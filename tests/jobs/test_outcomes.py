"""What each kind of end means for its job, in each state the job can be in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs import dispatcher
from serve_app.jobs.job import Job
from serve_app.jobs.outcomes import (
    MODEL_CHANGED,
    OUTDATED,
    REFUSALS,
    STOPS,
    STOPS_ALONE,
)
from serve_app.messages import JobError, Outcome, Ticket
from serve_app.params import DEFAULT_POOL
from tests.factories import deployed_pool, params

from .harness import DIED, RELEASED, STOPPED, World, turns

TOO_LITTLE = JobError(code="out_of_memory", title="t", detail="d", retryable=True)
BROKEN = JobError(code="non_finite", title="t", detail="d", retryable=False)
REFUSED = Outcome(kind="refused", reason="memory", error=TOO_LITTLE)
FAILED = Outcome(kind="failed", reason="NaN", error=BROKEN)
OUTDATED_END = Outcome(kind="outdated", reason="other weights")
FULL = Outcome(kind="full", reason="the disk is full")
LOST = None  # as the launcher of tests plays it

PENDING, STARTED, ALONE = "never admitted", "admitted", "admitted alone"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job waits for its backoff."""
    monkeypatch.setattr(dispatcher, "backoff", lambda first_s, times: 0.0)  # pyright: ignore


async def attempt(
    world: World, job_id: str, fence: int, outcome: Outcome | None, *, admitted: bool = False
) -> Ticket:
    """Let this attempt come to this end; its ticket."""
    if admitted:
        await world.started(job_id, fence)
    ticket = await world.launched(job_id, fence)
    world.launcher.end(job_id, fence, outcome)
    await world.until(lambda: (job_id, fence) not in world.launcher.running)
    return ticket


async def kept(world: World, job_id: str) -> Job:
    job = await world.registry._jobs.find(job_id)
    assert job is not None
    return job


@pytest.mark.parametrize(
    ("outcome", "state", "status", "attempts", "alone"),
    [
        (DIED, PENDING, "RETRY", 0, True),  # innocent until it ran alone
        (DIED, STARTED, "RETRY", 1, True),
        (DIED, ALONE, "RETRY", 2, True),
        (STOPPED, PENDING, "RETRY", 0, False),
        (STOPPED, STARTED, "RETRY", 0, False),
        (STOPPED, ALONE, "RETRY", 1, True),
        (LOST, PENDING, "RETRY", 0, False),
        (LOST, STARTED, "RETRY", 0, False),
        (LOST, ALONE, "RETRY", 1, True),
        (REFUSED, PENDING, "RETRY", 0, True),
        (REFUSED, STARTED, "RETRY", 0, True),
        (REFUSED, ALONE, "RETRY", 1, True),
        (OUTDATED_END, PENDING, "RETRY", 0, False),
        (FULL, STARTED, "RETRY", 0, False),
        (FULL, ALONE, "RETRY", 1, True),
        (RELEASED, PENDING, "PENDING", 0, False),
        (RELEASED, ALONE, "RETRY", 1, True),
        (FAILED, PENDING, "FAILURE", 0, False),
        (FAILED, STARTED, "FAILURE", 0, False),
        (FAILED, ALONE, "FAILURE", 1, False),
    ],
)  # fmt: skip
async def test_each_end_in_each_state(
    tmp_path: Path, outcome: Outcome | None, state: str, status: str, attempts: int, alone: bool
) -> None:
    """ALONE has died once before, so one death is counted already."""
    async with World(tmp_path) as world:
        job_id, fence = await world.submit(), 1
        if state == ALONE:
            await attempt(world, job_id, 1, DIED, admitted=True)
            fence = 2
            assert (await world.launched(job_id, 2))["alone"]
        await attempt(
            world,
            job_id,
            fence,
            outcome,
            admitted=state != PENDING and outcome is not RELEASED,
        )
        await world.until(lambda: world.registry._jobs.in_flight.get(job_id) != fence)
        job = await kept(world, job_id)
        assert (job.status.value, job.attempts, job.alone) == (status, attempts, alone)
        if status != "FAILURE":
            assert job.started_at is None
            assert await world.draw(job_id, fence + 1)
            assert (await kept(world, job_id)).attempts == attempts


async def test_a_death_never_counts_for_a_job_that_was_not_admitted(tmp_path: Path) -> None:
    """In company its report may have been lost, so it runs alone next. Alone it does not begin unreported: it
    waited for its turn while another one killed the renderer, however often."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        for fence in range(1, 2 * STOPS):
            ticket = await attempt(world, job_id, fence, DIED)
            assert ticket["alone"] == (fence > 1)
        assert await world.draw(job_id, 2 * STOPS)
        assert (await kept(world, job_id)).attempts == 0


async def test_three_deaths_are_enough(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        tickets = [await attempt(world, job_id, f, DIED, admitted=True) for f in (1, 2, 3)]
        await world.ended(job_id)
        error = (await kept(world, job_id)).error
        assert error is not None
        assert (error["code"], error["retryable"]) == ("renderer_died", True)
        assert "3 times" in error["detail"]
        assert [ticket["alone"] for ticket in tickets] == [False, True, True]
        assert (await world.look(job_id))["attempts"] == 3


async def test_a_lowered_limit_alone_ends_no_job(tmp_path: Path) -> None:
    """It has died as often as the new limit says; but its next end is no death."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await attempt(world, job_id, 1, DIED, admitted=True)
        world.registry.configure({"max_attempts": 1})
        await attempt(world, job_id, 2, STOPPED, admitted=True)
        assert await world.draw(job_id, 3)


async def test_what_three_renderers_refuse_fails_with_their_reason(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        for fence in range(1, REFUSALS + 1):
            ticket = await attempt(world, job_id, fence, REFUSED, admitted=True)
            assert ticket["alone"] == (fence > 1)
        await world.ended(job_id)
        assert (await world.look(job_id))["error"] == TOO_LITTLE
        assert (await world.look(job_id))["attempts"] == 0


async def test_what_one_renderer_refuses_another_may_draw(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        job_id = await world.submit()
        for fence in range(1, REFUSALS):
            await attempt(world, job_id, fence, REFUSED, admitted=True)
        assert await world.draw(job_id, REFUSALS)


async def test_a_job_of_the_deployed_weights_waits_for_their_renderer(tmp_path: Path) -> None:
    """A rollout is under way; however many old renderers it meets."""
    async with World(tmp_path) as world:
        world.registry.serves({DEFAULT_POOL: deployed_pool(revision="new")})
        job_id = await world.submit(params(model_revision="new"))
        for fence in range(1, 3 * OUTDATED):
            await attempt(world, job_id, fence, OUTDATED_END)
        assert await world.status(job_id) == "RETRY"
        assert await world.draw(job_id, 3 * OUTDATED)
        assert (await world.look(job_id))["attempts"] == 0


async def test_a_job_of_other_weights_fails_after_some_renderers(tmp_path: Path) -> None:
    """What it met before, such as pauses without a renderer, does not count."""
    async with World(tmp_path) as world:
        world.registry.serves({DEFAULT_POOL: deployed_pool(revision="new")})
        job_id = await world.submit(params(model_revision="old"))
        for fence in range(1, 4):
            await attempt(world, job_id, fence, RELEASED)
            world.registry.resume()
        for fence in range(4, 4 + OUTDATED):
            assert await world.status(job_id) != "FAILURE"
            await attempt(world, job_id, fence, OUTDATED_END)
        await world.ended(job_id)
        assert (await world.look(job_id))["error"] == MODEL_CHANGED


async def test_an_outdated_job_says_that_it_waits_for_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "backoff", lambda first_s, times: 60.0)  # pyright: ignore
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await attempt(world, job_id, 1, OUTDATED_END)
        await attempt(world, job_id, 2, OUTDATED_END)
        await world.until(lambda: world.registry.stats()["later"] == 1)
        assert (await kept(world, job_id)).waiting_for == "model"


async def test_a_job_whose_renderers_are_stopped_time_after_time_may_be_the_cause(
    tmp_path: Path,
) -> None:
    """A job that makes each renderer hang would be tried for ever."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        last = STOPS + 2  # the eighth, ninth and tenth count
        for fence in range(1, last + 1):
            ticket = await attempt(world, job_id, fence, STOPPED, admitted=True)
            assert ticket["alone"] == (fence > STOPS_ALONE)
            if fence == STOPS - 1:
                await world.until(lambda: world.registry._jobs.in_flight.get(job_id) != fence)  # noqa: B023
                assert (await kept(world, job_id)).attempts == 0
        await world.ended(job_id)
        error = (await kept(world, job_id)).error
        assert error is not None
        assert (error["code"], f"stopped {last} times" in error["detail"]) == (
            "renderer_died",
            True,
        )


async def test_troubles_of_each_kind_are_counted_apart(tmp_path: Path) -> None:
    """They are stored: no restart of the registry forgets them, and where it found the job drawn, it is one
    more."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        for fence, outcome in enumerate((STOPPED, REFUSED, LOST, REFUSED, STOPPED), 1):
            await attempt(world, job_id, fence, outcome, admitted=True)
        await world.started(job_id, 6)
        assert (await kept(world, job_id)).troubles == {"stopped": 2, "refused": 2, "lost": 1}
        await world.die_and_rise()
        ticket = await world.launched(job_id, 7)
        assert ticket["alone"]
        await attempt(world, job_id, 7, REFUSED, admitted=True)
        await world.ended(job_id)
        assert (await kept(world, job_id)).troubles == {"stopped": 3, "refused": 2, "lost": 1}
        assert (await world.look(job_id))["error"] == TOO_LITTLE


async def test_a_job_that_ends_the_registry_each_time_is_not_drawn_for_ever(tmp_path: Path) -> None:
    """It takes the machine down with it. One that only waited meanwhile is innocent."""
    async with World(tmp_path) as world:
        poison, mate = await world.submit(), await world.submit()
        for life in range(1, STOPS + 3):
            assert (await world.look(poison))["attempts"] == max(0, life - STOPS)
            ticket = await world.launched(poison, life)
            assert ticket["alone"] == (life > STOPS_ALONE)
            assert await world.registry.admitted(poison, life)
            await world.launched(mate, life)
            await world.die_and_rise()
        assert await world.code_of(poison) == "renderer_died"
        assert (await kept(world, mate)).troubles == {}
        assert await world.draw(mate, STOPS + 3)


async def test_a_full_disk_keeps_the_job_and_draws_nothing_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One finds out; no other is launched, not even when an ingress comes up. Then all are drawn."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        looks: list[bool] = []
        probe = world.files.probe

        def counted() -> None:
            looks.append(world.files.full)
            probe()

        monkeypatch.setattr(world.files, "probe", counted)
        world.files.full = True
        jobs = [await world.submit() for _ in range(3)]
        await attempt(world, jobs[0], 1, FULL, admitted=True)
        await world.until(lambda: world.registry.stats()["paused"] == "storage")
        world.registry.deployed()
        world.registry.resume()
        await world.until(lambda: len(looks) >= 2)
        await turns()
        assert [ticket["job_id"] for ticket in world.launcher.launched] == jobs[:1]
        views = [await world.look(job) for job in jobs]
        assert [view["waiting_for"] for view in views] == ["storage"] * 3
        assert [view["status"] for view in views] == ["RETRY", "PENDING", "PENDING"]
        world.files.full = False
        world.registry.resume()
        for job_id, fence in zip(jobs, (2, 1, 1), strict=True):
            assert await world.draw(job_id, fence)
        assert [(await world.look(job))["attempts"] for job in jobs] == [0, 0, 0]
        assert looks[-1] is False


async def test_files_of_an_attempt_that_ended_after_its_job_are_removed(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.launcher.ends_dropped = False
        job_id = await world.submit()
        await world.started(job_id)
        await world.registry.cancel(job_id, "ann")
        image = world.files.put(job_id, 1)
        world.launcher.end(job_id, 1, Outcome(kind="drawn", reason="", images=[image]))
        await world.until(lambda: not world.files.names())
        assert await world.status(job_id) == "REVOKED"


async def test_a_report_that_comes_after_the_end_changes_nothing(tmp_path: Path) -> None:
    """The start of a job that was drawn between two reports is told by the time it took."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        await world.launched(job_id)
        images: list[Any] = [world.files.put(job_id, 1)]
        drawn = Outcome(kind="drawn", reason="", images=images, run_s=0.001)
        world.launcher.end(job_id, 1, drawn)
        await world.ended(job_id)
        before = await world.look(job_id)
        assert before["started_at"] is not None
        assert before["completed_at"] is not None
        assert before["created_at"] <= before["started_at"] <= before["completed_at"]
        assert not await world.registry.admitted(job_id, 1)
        assert not await world.progress(job_id, 1, {"step": 1})
        assert await world.look(job_id) == before


async def test_a_task_that_is_lost_never_counts(tmp_path: Path) -> None:
    """Where tasks cannot run, the whole line waits; nothing of it fails."""
    async with World(tmp_path) as world:
        job_id = await world.submit()
        for fence in range(1, 2 * STOPS):
            assert not (await attempt(world, job_id, fence, LOST, admitted=True))["alone"]
        assert await world.draw(job_id, 2 * STOPS)
        assert (await world.look(job_id))["attempts"] == 0
