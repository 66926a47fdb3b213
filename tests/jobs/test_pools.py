"""Several pools: what one of them does or lacks changes nothing for the jobs of another, and no deployment
loses a job because its pool has gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.jobs import dispatcher, pauses
from serve_app.jobs.outcomes import MODEL_CHANGED, OUTDATED
from serve_app.jobs.pools import Pools
from serve_app.messages import DeployedPool, HeldModel, Outcome
from serve_app.params import CPU_POOL, DEFAULT_POOL, GenerationParams
from tests.factories import batch_row, batch_submission, deployed_pool, params, without_renderer

from .harness import RELEASED, World, nothing_lives

SMALL: dict[str, DeployedPool] = {
    "icons": deployed_pool("tiny", max_in_flight=1),
    "scenes": deployed_pool("big", max_in_flight=2),
}
OUTDATED_END = Outcome(kind="outdated", reason="other weights")


def big(**changes: object) -> GenerationParams:
    return params(model="big", **changes)


def test_a_job_is_at_home_where_its_model_is_drawn() -> None:
    pools = Pools()
    assert pools.home(DEFAULT_POOL, "tiny") == DEFAULT_POOL, "no deployment has said anything yet"
    pools.deployed(SMALL)
    assert pools.home(DEFAULT_POOL, "tiny") == pools.home("scenes", "tiny") == "icons"
    assert pools.home(CPU_POOL, "") == CPU_POOL
    assert pools.home("scenes", "gone") == "scenes"
    assert pools.home(DEFAULT_POOL, "gone") == "icons", "the first one says that it is not served"
    assert pools.slots("scenes", 7) == 2
    assert pools.slots(DEFAULT_POOL, 7) == 0, "nobody is there"


async def test_each_pool_has_slots_and_a_line_of_its_own(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        world.registry.serves(SMALL)
        tiny = [await world.submit(params(seed=seed)) for seed in range(3)]
        large = [await world.submit(big(seed=seed)) for seed in range(3)]
        for job_id in (tiny[0], *large[:2]):
            await world.launched(job_id)
        assert len(world.launcher.running) == 3
        waiting = [(await world.look(job_id))["queue_position"] for job_id in (tiny[2], large[2])]
        # Behind two of its own, and neither counts the other pool's.
        assert waiting == [3, 3]
        assert {ticket["summary"]["pool"] for ticket in world.launcher.launched} == set(SMALL)
        numbers = world.registry.stats()["pools"]
        assert [numbers[name]["in_flight"] for name in SMALL] == [1, 2]
        assert [numbers[name]["waiting"] for name in SMALL] == [2, 1]
        for job_id in tiny + large:
            await world.draw(job_id)
        assert nothing_lives(world)


async def test_a_pool_without_a_renderer_pauses_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until somebody resumes: here it would not go on by itself."""
    monkeypatch.setattr(pauses, "backoff", lambda first_s, times: 60.0)  # pyright: ignore
    async with World(tmp_path) as world:
        world.registry.serves(SMALL)
        first, later = await world.submit(), await world.submit()
        await world.launched(first)
        world.launcher.end(first, 1, RELEASED)
        await world.until(lambda: world.registry.stats()["pools"]["icons"]["paused"] == "renderer")
        drawn, derived = await world.submit(big()), await world.registry.submit(without_renderer())
        assert await world.draw(drawn)
        assert "job" in derived
        await world.draw(derived["job"]["job_id"])
        assert (await world.look(later))["waiting_for"] == "renderer"
        assert world.registry.stats()["pools"]["scenes"]["paused"] is None
        world.registry.resume()
        await world.draw(first, 2)
        await world.draw(later)


async def test_a_model_that_is_broken_takes_no_slot_of_its_renderer(tmp_path: Path) -> None:
    """Its jobs wait in line and say why; those of the other model are drawn. Then it can be loaded."""
    both = {"art/tiny": deployed_pool("tiny"), "art/big": deployed_pool("big")}
    there = HeldModel(revision="0" * 12, on_device=True, why=None)
    gone = HeldModel(revision="", on_device=False, why="its folder is missing")
    async with World(tmp_path) as world:
        world.registry.serves(both)
        world.registry.holds("one", {"tiny": there, "big": gone, "unknown": there})
        waits, drawn = await world.submit(big()), await world.submit()
        await world.draw(drawn)
        assert (await world.look(waits))["waiting_for"] == "model: its folder is missing"
        numbers = world.registry.stats()["pools"]
        assert [numbers[name]["held"] for name in both] == ["device", None]
        assert [ticket["job_id"] for ticket in world.launcher.launched] == [drawn]
        world.registry.holds("one", {"tiny": there, "big": there})
        await world.draw(waits)
        assert nothing_lives(world)


async def test_each_pool_says_what_its_own_jobs_wait_for(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.registry.serves(SMALL)
        first, second = await world.submit(), await world.submit(big())
        await world.launched(first)
        await world.launched(second)
        world.registry.loading("big")
        world.registry.load_failed("a tensor is missing", "big")
        assert (await world.look(first))["waiting_for"] == "replica"
        assert (await world.look(second))["waiting_for"] == "model: a tensor is missing"
        world.registry.ready("tiny", "0" * 12)
        numbers = world.registry.stats()["pools"]
        assert [numbers[name]["proven"] for name in SMALL] == [True, False]
        await world.draw(first)
        await world.draw(second)
        assert world.registry.stats()["pools"]["scenes"]["load_error"] is None


async def test_each_pool_has_a_forecast_of_its_own(tmp_path: Path) -> None:
    """A model that is a hundred times slower says nothing of the other's jobs."""
    async with World(tmp_path) as world:
        world.registry.serves(SMALL)
        work = params().work
        for order, seconds in (params(), 1.0), (big(), 100.0):
            job_id = await world.submit(order)
            await world.launched(job_id)
            await world.registry.admitted(job_id, 1, solo_seconds=seconds)
            await world.finish(job_id, 1, [world.files.put(job_id, 1)])
        quick = world.registry.estimate(work, "ann", "tiny")
        slow = world.registry.estimate(work, "ann", "big")
        assert quick is not None
        assert slow is not None
        assert slow > 20 * quick
        keys = [b"1", b"2"]
        both = {"tiny": (1, work), "big": (1, work)}
        plan = await world.registry.plan_batch("ann", "", keys, both)
        assert plan["seconds"] == pytest.approx(slow), "pools draw beside each other"


async def test_jobs_follow_their_model_to_other_pools(tmp_path: Path) -> None:
    """Those that wait, that run, and that a restart finds; also rows of a batch, which are not in memory."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        running, waiting = await world.submit(big()), await world.submit(big(seed=2))
        reply = await world.registry.submit_batch(batch_submission(batch_row(big(seed=3))))
        assert "batch" in reply
        await world.launched(running)
        world.registry.serves(SMALL)
        assert (await world.launched(waiting))["summary"]["pool"] == "scenes"
        world.launcher.end(running, 1, RELEASED)
        await world.draw(waiting)
        again = await world.launched(running, 2)
        assert again["summary"]["pool"] == "scenes"
        await world.die_and_rise()
        world.registry.serves({"all": deployed_pool("big")})
        await world.until(lambda: len(world.launcher.running) == 2)
        pools = {ticket["summary"]["pool"] for ticket in world.launcher.launched}
        assert pools <= {DEFAULT_POOL, "all"}, "one may have begun before the deployment was known"
        while world.launcher.running:
            await world.draw_next()
        await world.idle()
        assert nothing_lives(world)


async def test_a_job_that_no_pool_draws_any_more_fails_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "backoff", lambda first_s, times: 0.0)  # pyright: ignore
    async with World(tmp_path, {"max_in_flight": 0}) as world:
        job_id = await world.submit(big())
        world.registry.serves({"icons": SMALL["icons"]})
        for fence in range(1, 1 + OUTDATED):
            ticket = await world.launched(job_id, fence)
            assert ticket["summary"]["pool"] == "icons"
            world.launcher.end(job_id, fence, OUTDATED_END)
        await world.ended(job_id)
        assert (await world.look(job_id))["error"] == MODEL_CHANGED


async def test_a_share_holds_in_each_pool(tmp_path: Path) -> None:
    """Who orders a lot of one model waits no longer for another: clocks are a line's own."""
    async with World(tmp_path) as world:
        world.registry.serves({name: {**pool, "max_in_flight": 1} for name, pool in SMALL.items()})
        many = [await world.submit(params(seed=seed)) for seed in range(6)]
        first = await world.submit(big(seed=1))
        for job_id in many[:4]:
            await world.draw(job_id)
        own, other = await world.submit(big(seed=2)), await world.submit(big(seed=3), owner="bob")
        await world.draw(first)
        assert await world.draw_next() in (own, other, *many[4:])
        while world.launcher.running:
            await world.draw_next()
        await world.idle()
        assert nothing_lives(world)
