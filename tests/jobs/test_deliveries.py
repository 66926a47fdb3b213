"""Deliveries: every event is sent at least once, in the order of its job, however calls and processes end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serve_app.jobs import deliveries as module
from serve_app.jobs.background import Background
from serve_app.jobs.deliveries import DISABLE_AFTER_S, SCHEDULE_S, CourierLost, Deliveries
from serve_app.jobs.job import Status
from serve_app.jobs.store.outbox import Due, Ruling
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import Delivery, Handed, Parcel, Webhook
from tests.factories import job, labels, new_id
from tests.jobs.harness import NoMetrics, World, insert, turns
from tests.jobs.store.test_batches import insert as insert_batch
from tests.jobs.store.test_batches import new_rows

URL = "https://build.example/hook"
Says = Callable[[Parcel], int | str]
"""The status of an answer, or why there is none."""


@dataclass
class Played:
    """A courier whose receivers answer as `says` does."""

    says: Says = lambda _: 200
    sent: list[str] = field(default_factory=list[str])
    dies: int = 0  # so many times, after it has sent
    held: asyncio.Event | None = None
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def deliver(self, parcels: Sequence[Parcel]) -> list[Handed]:
        self.sent += [parcel["id"] for parcel in parcels]
        self.called.set()
        if self.held is not None:
            await self.held.wait()
        if self.dies:
            self.dies -= 1
            raise CourierLost("SIGKILL")
        return [self._handed(parcel) for parcel in parcels]

    def _handed(self, parcel: Parcel) -> Handed:
        said = self.says(parcel)
        status, error = (said, None) if isinstance(said, int) else (None, said)
        return Handed(number=parcel["number"], status=status, error=error, ms=1)


class Time:
    """Goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counted(NoMetrics):
    def __init__(self) -> None:
        self.calls = Counter[str]()
        self.backlog = asyncio.Queue[tuple[int, float]]()

    def webhook(self, outcome: str, calls: int) -> None:
        self.calls[outcome] += calls

    def outbox(self, waiting: int, oldest_s: float) -> None:
        self.backlog.put_nowait((waiting, oldest_s))


@dataclass
class Office:
    store: SqliteStore
    courier: Played
    deliveries: Deliveries
    time: Time
    metrics: Counted
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        settle = self.store.outbox.settle

        async def told(rulings: Mapping[int, Ruling]) -> None:
            await settle(rulings)
            self.settled.set()

        self.store.outbox.settle = told

    async def post(self, *events: str) -> str:
        hook = Webhook(url=URL, events=[*(events or ("queued",))], root="")
        one = job(
            labelled=labels(webhook=hook), job_id=new_id(), number=int(self.time.now * 1e6),
            created_at=self.time.now,
        )  # fmt: skip
        self.time.now += 1e-3
        await insert(self.store, one)
        return one.job_id

    async def sees(self, job_id: str) -> Delivery:
        """The newest delivery about this job or batch."""
        async with asyncio.timeout(10):
            while not (page := await self.store.outbox.page("ann", {"job_id": job_id}, 1, None))[
                "deliveries"
            ]:
                await turns()
        return page["deliveries"][0]

    async def until(self, condition: Callable[[Delivery], bool], job_id: str) -> Delivery:
        async with asyncio.timeout(10):
            while True:
                self.settled.clear()
                if condition(found := await self.sees(job_id)):
                    return found
                await self.settled.wait()

    def later(self, seconds: float) -> None:
        self.time.now += seconds
        self.deliveries.wake()


@contextlib.asynccontextmanager
async def office(folder: Path, time: Time, courier: Played) -> AsyncGenerator[Office]:
    background, store = Background(), SqliteStore(folder)
    metrics = Counted()
    deliveries = Deliveries(store.outbox, courier, background, metrics, time, jitter=lambda: 0.0)
    store.outbox.posted = deliveries.wake
    background.spawn(deliveries.run())
    yield Office(store, courier, deliveries, time, metrics)
    await background.close()
    await store.close()


@pytest.fixture
async def works(tmp_path: Path) -> AsyncGenerator[Office]:
    async with office(tmp_path, Time(), Played()) as works:
        yield works


def tries(number: int) -> Callable[[Delivery], bool]:
    return lambda found: found["tries"] == number


async def test_a_batch_that_ends_while_the_outbox_is_read_is_found(works: Office) -> None:
    """Nobody is woken when it ends, and its end may be older than the moment of the look."""
    hook = Webhook(url=URL, events=["completed"], root="")
    rows, look = new_rows("a"), works.store.outbox.due

    async def due(now: float) -> list[Due]:
        found = await look(now)
        ended = rows[0].job.evolve(status=Status.SUCCESS, completed_at=now - 1)
        await works.store.update(ended, expected_fence=0)
        return found

    works.store.outbox.due = due
    batch = await insert_batch(works.store, rows, hook=hook)
    await works.until(lambda found: found["state"] == "delivered", batch.batch_id)


async def test_a_look_that_ends_after_what_it_saw_was_sent_does_not_send_it_again(
    works: Office,
) -> None:
    """It began while the call was on its way: it found it due, and the reply came before the look's."""
    look, looked, go_on = works.store.outbox.due, asyncio.Event(), asyncio.Event()
    works.courier.held = asyncio.Event()

    async def due(now: float) -> list[Due]:
        found = await look(now)
        if found and works.courier.sent:
            looked.set()
            await go_on.wait()
        return found

    works.store.outbox.due = due
    job_id = await works.post()
    async with asyncio.timeout(10):
        await works.courier.called.wait()
        works.deliveries.wake()
        await looked.wait()
        works.courier.held.set()
        await works.until(lambda found: found["state"] == "delivered", job_id)
        while len(works.deliveries):
            await turns()
    go_on.set()
    await turns()
    assert works.courier.sent == [f"msg_{job_id}_queued"]


async def test_what_came_of_calls_and_what_waits_is_counted(works: Office) -> None:
    works.courier.says = lambda _: 500
    job_id = await works.post()
    await works.until(tries(1), job_id)
    works.time.now += 3
    measuring = asyncio.create_task(works.deliveries.measure())
    async with asyncio.timeout(10):
        assert await works.metrics.backlog.get() == (1, pytest.approx(3, abs=0.1))
    measuring.cancel()
    works.courier.says = lambda _: 410
    works.later(SCHEDULE_S[0])
    await works.until(lambda found: found["state"] == "failed", job_id)
    assert works.metrics.calls == {"failed": 1, "given_up": 1}
    assert await works.store.outbox.backlog() == (0, None)


async def test_it_is_sent_when_it_is_written(works: Office) -> None:
    job_id = await works.post()
    found = await works.until(lambda found: found["state"] == "delivered", job_id)
    assert works.courier.sent == [f"msg_{job_id}_queued"]
    assert (found["tries"], found["due"], found["calls"][0]["status"]) == (1, None, 200)


async def test_what_fails_is_sent_again_by_the_schedule_and_then_given_up(works: Office) -> None:
    """The same message each time. A day after the last try but one comes the last."""
    works.courier.says = lambda _: 500
    job_id = await works.post()
    for number, delay in enumerate(SCHEDULE_S, 1):
        found = await works.until(tries(number), job_id)
        assert found["state"] == "waiting"
        assert found["due"] == pytest.approx(works.time.now + delay)
        works.later(delay - 0.5)
        await turns()
        assert len(works.courier.sent) == number
        works.later(0.6)
    found = await works.until(lambda found: found["state"] == "failed", job_id)
    assert found["reason"] == "the receiver answered 500"
    assert works.courier.sent == [f"msg_{job_id}_queued"] * 10
    assert sum(SCHEDULE_S) > 3 * 86_400


async def test_jitter_only_adds(tmp_path: Path) -> None:
    time = Time()
    async with office(tmp_path, time, Played(lambda _: "it cannot be reached")) as works:
        works.deliveries._jitter = lambda: 1.0
        found = await works.until(tries(1), await works.post())
        assert found["due"] == pytest.approx(time.now + SCHEDULE_S[0] * 1.2)
        assert found["reason"] == "it cannot be reached"


async def test_a_receiver_that_says_gone_is_called_no_more(works: Office) -> None:
    works.courier.says = lambda _: 410
    first = await works.post()
    found = await works.until(lambda found: found["state"] == "failed", first)
    assert "410" in (found["reason"] or "")
    second = await works.post()
    assert (await works.sees(second))["state"] == "dropped"
    works.courier.says = lambda _: 200
    assert await works.deliveries.again(f"msg_{first}_queued", "ann") is not None
    await works.until(lambda found: found["state"] == "delivered", first)
    third = await works.post()
    await works.until(lambda found: found["state"] == "delivered", third)


async def test_a_url_that_fails_for_days_is_disabled_with_its_reason(works: Office) -> None:
    works.courier.says = lambda _: 503
    first = await works.post()
    await works.until(tries(1), first)
    works.time.now += DISABLE_AFTER_S + 1
    last = await works.post()
    found = await works.until(lambda found: found["state"] == "dropped", last)
    assert found["reason"] == "no success for 5 days; the last time: the receiver answered 503"
    assert (await works.sees(first))["state"] == "failed"


async def test_one_success_ends_the_days_that_are_counted(works: Office) -> None:
    works.courier.says = lambda _: 503
    first = await works.post()
    await works.until(tries(1), first)
    works.courier.says = lambda _: 200
    works.later(10)
    await works.until(lambda found: found["state"] == "delivered", first)
    works.time.now += DISABLE_AFTER_S + 1
    works.courier.says = lambda _: 503
    found = await works.until(tries(1), await works.post())
    assert found["state"] == "waiting"


async def test_what_a_dead_courier_may_have_sent_is_sent_again(
    works: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that counts as no try: the receiver is not to blame."""
    monkeypatch.setattr(module, "PAUSE_S", (0.001, 0.001))
    works.courier.dies = 2
    job_id = await works.post()
    found = await works.until(lambda found: found["state"] == "delivered", job_id)
    assert found["tries"] == 1
    assert works.courier.sent == [f"msg_{job_id}_queued"] * 3


async def test_what_was_on_its_way_when_the_registry_died_is_sent_again(tmp_path: Path) -> None:
    time = Time()
    async with office(tmp_path, time, Played(held=asyncio.Event())) as works:
        job_id = await works.post()
        async with asyncio.timeout(10):
            await works.courier.called.wait()
        assert len(works.deliveries) == 1
    async with office(tmp_path, time, Played()) as works:
        await works.until(lambda found: found["state"] == "delivered", job_id)
        assert works.courier.sent == [f"msg_{job_id}_queued"]


async def test_a_slow_receiver_is_not_called_for_the_same_event_meanwhile(works: Office) -> None:
    works.courier.held = asyncio.Event()
    job_id = await works.post()
    async with asyncio.timeout(10):
        await works.courier.called.wait()
    works.later(1)
    await turns()
    assert len(works.courier.sent) == 1
    works.courier.held.set()
    await works.until(lambda found: found["state"] == "delivered", job_id)


async def test_a_test_is_tried_once(works: Office) -> None:
    works.courier.says = lambda _: 500
    asked = await works.deliveries.test("ann", URL)
    async with asyncio.timeout(10):
        await works.settled.wait()
    (found,) = (await works.deliveries.page("ann", {}, 1, None))["deliveries"]
    assert (found["id"], found["state"], found["tries"]) == (asked["id"], "failed", 1)


async def test_a_registry_sends_what_its_jobs_are_told_to(tmp_path: Path) -> None:
    """In the order of the job; nothing of a job without webhook; across a restart."""
    courier = Played()
    hook = Webhook(url=URL, events=["queued", "started", "output", "completed"], root="")
    async with World(tmp_path, courier=courier) as world:
        await world.draw(await world.submit())
        job_id = await world.submit(labelled=labels(webhook=hook))
        await world.draw(job_id)
        await world.until(lambda: len(courier.sent) == 4)
        told = [f"msg_{job_id}_{event}" for event in hook["events"]]
        assert courier.sent == told
        waiting = await world.submit(labelled=labels(webhook=hook))
        courier.dies = 1000
        await world.die_and_rise()
        courier.dies = 0
        await world.registry.cancel(waiting, "ann")
        await world.until(lambda: f"msg_{waiting}_completed" in courier.sent)
        assert f"msg_{waiting}_queued" in courier.sent
