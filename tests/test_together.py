"""Calls that share a trip: each gets its own answer, and nobody waits for more than one trip."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.together import Together


class Counter:
    """Answers n with 10 n, once its gate is open; remembers what each trip carried."""

    def __init__(self) -> None:
        self.trips: list[list[int]] = []
        self.began = asyncio.Queue[int]()
        self.gate = asyncio.Event()

    async def send_all(self, items: list[int]) -> list[int]:
        self.trips.append(items)
        self.began.put_nowait(len(items))
        await self.gate.wait()
        if -1 in items:
            raise ConnectionError("lost")
        return [10 * item for item in items]


async def test_what_comes_during_a_trip_shares_the_next() -> None:
    counter = Counter()
    together = Together(counter.send_all, at_most=3)
    first = asyncio.create_task(together.send(0))
    await counter.began.get()
    rest = [asyncio.create_task(together.send(i)) for i in (1, 2, 3, 4)]
    counter.gate.set()
    assert await asyncio.gather(first, *rest) == [0, 10, 20, 30, 40]
    assert counter.trips == [[0], [1, 2, 3], [4]]
    assert await together.send(5) == 50
    assert len(together) == 0


async def test_a_lost_trip_fails_its_own_calls_only() -> None:
    counter = Counter()
    together = Together(counter.send_all)
    lost = asyncio.create_task(together.send(-1))
    await counter.began.get()
    later = asyncio.create_task(together.send(1))
    counter.gate.set()
    with pytest.raises(ConnectionError):
        await lost
    assert await later == 10


async def test_a_caller_that_gives_up_takes_nobody_along() -> None:
    counter = Counter()
    together = Together(counter.send_all)
    gone = asyncio.create_task(together.send(1))
    await counter.began.get()
    gone.cancel()
    later = asyncio.create_task(together.send(2))
    counter.gate.set()
    assert await later == 20
    assert counter.trips == [[1], [2]]
