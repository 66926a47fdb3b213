"""When nothing is launched, why, and what makes it go on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs import pauses as pauses_module
from serve_app.jobs.background import Background
from serve_app.jobs.pauses import ABSENT_AFTER_S, LONGEST_BACKOFF_S, Pauses, backoff
from serve_app.params import DEFAULT_POOL

from .harness import RELEASED, World, turns


class Hall:
    """Pauses on a clock that tests move, and how often launching might go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.changes = 1000.0, 0
        self.delays: list[float] = []  # of the timers that were set; tests let them ring
        monkeypatch.setattr(pauses_module, "time", self)
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self.call_later)
        self.pauses = Pauses(self.changed, Background())

    def monotonic(self) -> float:
        return self.now

    def call_later(self, delay: float, *_: Any) -> None:
        self.delays.append(delay)

    def changed(self) -> None:
        self.changes += 1


@pytest.fixture(name="hall")
async def _hall(monkeypatch: pytest.MonkeyPatch) -> Hall:
    return Hall(monkeypatch)


async def test_an_application_is_there_as_long_as_somebody_watches(hall: Hall) -> None:
    assert hall.pauses.why() == "application"
    hall.pauses.watched()
    assert (hall.pauses.why(), hall.changes) == (None, 1)
    hall.now += ABSENT_AFTER_S
    assert hall.pauses.why() is None
    hall.pauses.watched()
    assert hall.changes == 1, "nothing has changed"
    hall.now += ABSENT_AFTER_S + 0.1
    assert hall.pauses.why() == "application"
    hall.pauses.watched()
    assert (hall.pauses.why(), hall.changes) == (None, 2)


async def test_pauses_in_a_row_grow_until_a_job_ran(hall: Hall) -> None:
    hall.pauses.watched()
    for _ in range(3):
        hall.pauses.pause("renderer")
        hall.pauses.pause("storage")  # while one lasts there is no other
        assert hall.pauses.why() == "renderer"
        hall.pauses.resume()
        assert hall.pauses.why() is None
    assert hall.delays == [0.25, 0.5, 1.0]
    hall.pauses.reset_backoff(DEFAULT_POOL)
    hall.pauses.pause("storage")
    assert hall.pauses.why() == "storage"
    assert hall.delays[-1] == 0.25


async def test_a_drain_outlasts_pauses_and_is_cancelled_by_a_deployment(hall: Hall) -> None:
    hall.pauses.watched()
    hall.pauses.pause("storage")
    hall.pauses.drain()
    assert hall.pauses.why() == "draining"
    hall.pauses.resume()
    assert hall.pauses.why() == "draining"
    before = hall.changes
    hall.pauses.cancel_drain()
    assert (hall.pauses.why(), hall.changes) == (None, before + 1)


def test_a_backoff_doubles_and_is_bounded() -> None:
    assert [backoff(0.5, times) for times in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert backoff(0.25, 10) == backoff(0.25, 100_000) == LONGEST_BACKOFF_S


async def test_a_pause_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses_module, "LONGEST_BACKOFF_S", 0.01)
    over = asyncio.Event()
    pauses = Pauses(over.set, Background())
    pauses.watched()
    over.clear()
    pauses.pause("renderer")
    assert not over.is_set()
    await asyncio.wait_for(over.wait(), 5)
    assert pauses.why() is None


async def test_without_a_renderer_dispatch_pauses_and_the_job_says_so(
    tmp_path: Path,
) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        first, second = await world.submit(), await world.submit()
        await world.launched(first)
        world.launcher.end(first, 1, RELEASED)
        await world.until(lambda: world.registry.stats()["paused"] == "renderer")
        reply = await world.registry.watch(world.registry.epoch, 0, 0)
        assert reply["paused"] == "renderer"
        await world.launched(first, 2)  # by itself, after the pause
        assert await world.status(first) == "PENDING"
        assert await world.draw(first, 2)
        await world.draw(second)


async def test_without_an_application_nothing_is_launched(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.lose_ingress()
        job_id = await world.submit()
        await turns()
        assert world.registry.stats()["paused"] == "application"
        assert not world.launcher.launched
        await world.see_ingress()
        await world.launched(job_id)


async def test_a_waiting_job_says_what_it_waits_for(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        first, second, third = [await world.submit() for _ in range(3)]
        await world.launched(first)

        async def said() -> list[tuple[str | None, int | None]]:
            views = [await world.look(job_id) for job_id in (first, second, third)]
            return [(view["waiting_for"], view["queue_position"]) for view in views]

        assert await said() == [("replica", 1), ("turn", 2), ("turn", 3)]
        world.registry.loading()
        assert await said() == [("model", 1), ("turn", 2), ("turn", 3)]
        await world.registry.admitted(first, 1)
        assert await said() == [(None, None), ("turn", 1), ("turn", 2)]
        assert await world.finish(first, 1, [])
        await world.launched(second)
        assert await said() == [(None, None), ("replica", 1), ("turn", 2)]
        world.launcher.end(second, 1, RELEASED)
        await world.until(lambda: world.registry.stats()["paused"])
        assert await said() == [(None, None), ("renderer", 1), ("renderer", 2)]
        world.lose_ingress()
        assert await said() == [(None, None), ("application", 1), ("application", 2)]


class Disk:
    """Is mended when a test says so, and tells how often it was looked at."""

    def __init__(self) -> None:
        self.whole, self.broken_probe = False, False
        self.looks = 0

    async def mended(self) -> bool:
        self.looks += 1
        if self.broken_probe:
            raise RuntimeError("the probe itself")
        return self.whole


@pytest.fixture(name="quick")
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses_module, "LONGEST_BACKOFF_S", 0.001)


async def until_over(pauses: Pauses) -> None:
    async with asyncio.timeout(5):
        while pauses.why() is not None:
            await turns(1)


@pytest.mark.usefixtures("quick")
async def test_a_pause_with_a_probe_goes_on_until_it_is_mended() -> None:
    pauses, disk = Pauses(lambda: None, Background()), Disk()
    pauses.watched()
    pauses.pause("storage", disk.mended)
    async with asyncio.timeout(5):
        while disk.looks < 3:
            await turns(1)
    assert pauses.why() == "storage"
    disk.broken_probe = True
    looks = disk.looks
    async with asyncio.timeout(5):
        while disk.looks < looks + 2:  # a probe that fails is tried again
            await turns(1)
    assert pauses.why() == "storage"
    disk.whole, disk.broken_probe = True, False
    await until_over(pauses)
    looks = disk.looks
    await turns()
    assert disk.looks == looks


async def test_whoever_resumes_asks_the_probe_first(hall: Hall) -> None:
    """An ingress comes up while the disk is full: nothing is launched for that. With room, it is at once."""
    disk = Disk()
    hall.pauses.watched()
    hall.pauses.pause("storage", disk.mended)
    before = hall.changes
    hall.pauses.resume()
    hall.pauses.cancel_drain()
    hall.pauses.resume()
    await turns()
    assert (disk.looks, hall.pauses.why(), hall.changes) == (1, "storage", before)
    disk.whole = True
    hall.pauses.resume()
    await turns()
    assert (disk.looks, hall.pauses.why(), hall.changes) == (2, None, before + 1)


async def test_a_pause_with_a_probe_takes_the_place_of_one_without(hall: Hall) -> None:
    disk = Disk()
    hall.pauses.watched()
    hall.pauses.pause("renderer")
    hall.pauses.pause("storage", disk.mended)
    assert hall.pauses.why() == "storage"
    hall.pauses.pause("renderer")
    hall.pauses.pause("storage", disk.mended)
    assert hall.pauses.why() == "storage"
    assert hall.delays == [0.25, 0.5]


async def test_the_end_of_one_pause_does_not_shorten_the_next() -> None:
    """Its timer is cancelled with it."""
    pauses = Pauses(lambda: None, Background())
    pauses.watched()
    pauses.pause("renderer")
    first = pauses._of_all._timer
    assert first is not None
    pauses.resume()
    assert first.cancelled()
    pauses.pause("renderer")
    assert pauses._of_all._timer is not None
    assert not pauses._of_all._timer.cancelled()
    pauses.resume()
