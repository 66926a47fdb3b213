"""GroupedCalls: alone a call goes at once; together they share one; each hears what became of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serve_app.cluster.grouped_calls import MOST, GroupedCalls
from serve_app.errors import Unavailable


class Far:
    """The other side: it answers each number with its double, but when it is told to go on."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.calls = GroupedCalls(self.send)
        self._held: list[asyncio.Event] = []
        self.arrived = asyncio.Condition()
        self.error: Exception | None = None

    async def send(self, many: list[tuple[int]]) -> list[Any]:
        self.groups.append([number for (number,) in many])
        go_on = asyncio.Event()
        self._held.append(go_on)
        async with self.arrived:
            self.arrived.notify_all()
        await go_on.wait()
        if self.error is not None:
            raise self.error
        return [ValueError(number) if number < 0 else 2 * number for (number,) in many]

    async def until(self, groups: int) -> None:
        async with self.arrived, asyncio.timeout(5):
            await self.arrived.wait_for(lambda: len(self.groups) >= groups)

    def answer(self) -> None:
        """What has arrived so far."""
        for event in self._held:
            event.set()
        self._held.clear()

    def ask(self, number: int) -> asyncio.Task[Any]:
        return asyncio.create_task(self.calls.call(number))


@pytest.fixture
async def far() -> Far:
    return Far()


async def test_a_call_goes_at_once_and_those_that_wait_go_together(far: Far) -> None:
    first = far.ask(1)
    await far.until(1)
    rest = [far.ask(number) for number in (2, 3, 4)]
    far.answer()
    assert await first == 2
    await far.until(2)
    far.answer()
    assert await asyncio.gather(*rest) == [4, 6, 8]
    assert far.groups == [[1], [2, 3, 4]]


async def test_a_call_in_the_very_turn_in_which_the_last_group_ends_goes_too(far: Far) -> None:
    first = far.ask(1)
    await far.until(1)
    second: list[asyncio.Task[Any]] = []
    first.add_done_callback(lambda _: second.append(far.ask(2)))
    far.answer()
    assert await first == 2
    await far.until(2)
    far.answer()
    assert await second[0] == 4


async def test_a_group_has_a_limit(far: Far) -> None:
    asked = [far.ask(number) for number in range(2 * MOST + 3)]
    answered = asyncio.gather(*asked)
    for groups in range(1, 4):
        await far.until(groups)
        far.answer()
    assert await answered == [2 * number for number in range(len(asked))]
    assert max(map(len, far.groups)) == MOST


async def test_each_call_hears_of_its_own_mistake(far: Far) -> None:
    asked = [far.ask(1), far.ask(-2), far.ask(3)]
    await far.until(1)
    far.answer()
    assert (await asked[0], await asked[2]) == (2, 6)
    with pytest.raises(ValueError, match="-2"):
        await asked[1]


async def test_all_of_a_group_hear_that_nobody_answers_and_the_next_group_goes(far: Far) -> None:
    asked = [far.ask(1), far.ask(2)]
    await far.until(1)
    far.error = Unavailable()
    far.answer()
    for call in asked:
        with pytest.raises(Unavailable):
            await call
    far.error = None
    again = far.ask(3)
    await far.until(2)
    far.answer()
    assert await again == 6


async def test_a_call_that_was_given_up_while_it_waited_is_not_sent(far: Far) -> None:
    under_way = far.ask(1)
    await far.until(1)
    left, stays = far.ask(3), far.ask(4)
    await asyncio.sleep(0)  # both wait now
    left.cancel()
    far.answer()
    await under_way
    await far.until(2)
    far.answer()
    assert await stays == 8
    assert far.groups == [[1], [4]]


async def test_a_caller_that_leaves_takes_no_other_with_it(far: Far) -> None:
    """The task that sends belongs to nobody: not to the call that began it either."""
    begins, joins = far.ask(1), far.ask(2)
    await far.until(1)
    begins.cancel()
    far.answer()
    assert await joins == 4
