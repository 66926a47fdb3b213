"""A device that hangs, or runs out of memory time after time: the engine says so, and is given up."""

from __future__ import annotations

import asyncio
from typing import Any

from serve_app.engine.engine import SICK_AFTER
from serve_app.errors import OutOfMemory
from tests.engine.harness import Gated, kinds, render, running


class Hanging(Gated):
    """Its calls come back only when the test opens the gate, at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.clear()


async def test_an_engine_that_hangs_is_given_up_while_the_call_goes_on() -> None:
    """Nobody waits for it: what it draws ends as a death, and what comes later is sent elsewhere."""
    runner = Hanging()
    async with running(runner) as engine:
        engine.stall_seconds = 0.0
        reader = asyncio.create_task(render(engine))
        other = asyncio.create_task(render(engine, "b", seed=2))
        await runner.arrived()
        assert not engine.healthy
        engine.give_up()
        for events in await asyncio.gather(reader, other):
            assert events[-1]["code"] == "engine_stopped"
            assert "did not answer" in events[-1]["detail"]
        assert engine.holders() == {}
        late = await render(engine, "c", seed=3)
        assert (late[-1]["code"], kinds(late)) == ("dropped", ["failed"])
        engine.stall_seconds = 120.0
        assert not engine.healthy, "it stays given up, though it has no work"
        engine.give_up()  # twice is once


async def test_image_after_image_out_of_memory_makes_an_engine_sick() -> None:
    """Each alone in its call. A renderer that fails is soon free, so it would attract all jobs."""
    runner = Gated()

    def full(requests: list[Any]) -> None:
        raise OutOfMemory

    runner.before_call = full
    async with running(runner) as engine:
        for number in range(SICK_AFTER):
            assert engine.healthy
            events = await render(engine, str(number), seed=number)
            assert (events[-1]["code"], events[-1]["retryable"]) == ("out_of_memory", True)
        assert not engine.healthy
        assert engine.stats()["out_of_memory"] == SICK_AFTER


async def test_one_image_that_is_drawn_shows_that_a_device_is_well() -> None:
    runner = Gated()

    def full(requests: list[Any]) -> None:
        if requests[0].seed != 0:
            raise OutOfMemory

    runner.before_call = full
    async with running(runner) as engine:
        for round_ in range(2):
            for number in range(1, SICK_AFTER):
                await render(engine, f"{round_} {number}", seed=number)
            assert "image" in kinds(await render(engine, f"good {round_}", seed=0))
        assert engine.healthy


async def test_a_sick_engine_that_is_given_up_says_why() -> None:
    runner = Gated()

    def full(requests: list[Any]) -> None:
        if requests[0].seed:
            raise OutOfMemory

    runner.before_call = full
    async with running(runner) as engine:
        for number in range(1, SICK_AFTER + 1):
            await render(engine, str(number), seed=number)
        runner.gate.clear()
        reader = asyncio.create_task(render(engine, "good", seed=0))
        await runner.arrived()
        engine.give_up()
        assert "out of memory" in (await reader)[-1]["detail"]
