"""Deliveries: sends what the outbox holds, when it is due, and decides what a failed call means.

Knows the schedule of repeated calls. Knows neither HTTP nor secrets: a Courier, in another process, has both.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from serve_app.hook_events import TEST
from serve_app.jobs.background import Background
from serve_app.jobs.store.outbox import Due, Outbox, Ruling
from serve_app.messages import CallMade, Delivery, DeliveryFilter, DeliveryPage, Handed, Parcel
from serve_app.metrics import JobMetrics

log = logging.getLogger("assets.registry")

SCHEDULE_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""After each failed call, until the next one: three days in all, as Standard Webhooks has it."""
JITTER = 0.2
"""Up to so much of it is added, so that what failed together does not come back together."""
DISABLE_AFTER_S = 5 * 86_400.0
"""A URL that has failed for so long, without one success, is called no more."""
KEPT_S = 30 * 86_400.0
"""What is over stays in the log of deliveries so long."""
FORGOTTEN_AT_ONCE = 1000
TIDY_EVERY_S = 3600.0
MEASURE_EVERY_S = 10.0
GONE = 410
OUTCOMES = {"delivered": "delivered", "waiting": "failed", "failed": "given_up"}
"""State of a delivery after a call -> how the metrics call that."""
LOOK_FOR_BATCHES_S = 1.0
"""Between two looks whether a batch has ended that calls somebody, while there is one."""
PAUSE_S = (1.0, 60.0)
"""Before the next try when the courier died or the store failed: at first, at most."""


class CourierLost(Exception):
    """Its process has died, and nobody knows what it has sent."""


class Courier(Protocol):
    async def deliver(self, parcels: Sequence[Parcel]) -> list[Handed]:
        """One call for each. Raises CourierLost; then any of them may have been made."""
        ...


class NoCourier:
    """Where no webhook can be ordered."""

    async def deliver(self, parcels: Sequence[Parcel]) -> list[Handed]:
        raise CourierLost("this server sends no webhooks")


class Deliveries:
    """At least once: a call whose end was not noted is made again. `now()`: unix seconds."""

    def __init__(
        self,
        outbox: Outbox,
        courier: Courier,
        background: Background,
        metrics: JobMetrics,
        now: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._outbox, self._courier = outbox, courier
        self._background, self._metrics = background, metrics
        self._now, self._jitter = now, jitter
        self._woken = asyncio.Event()
        self._in_hand: set[int] = set()

    def wake(self) -> None:
        """Something was written to the outbox."""
        self._woken.set()

    def __len__(self) -> int:
        """Deliveries that are on their way."""
        return len(self._in_hand)

    async def run(self) -> None:
        """For ever. While nothing is due, it waits, and costs nothing."""
        pause, longest = PAUSE_S
        while True:
            self._woken.clear()
            try:
                wait = await self._begin_what_is_due()
                pause = PAUSE_S[0]
            except sqlite3.Error as error:
                log.error("the outbox cannot be read: %s", error)
                wait, pause = pause, min(2 * pause, longest)
            try:
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _begin_what_is_due(self) -> float | None:
        """Seconds until more is due; None: nothing waits for its time."""
        # Asked first: a batch that ends from here on is looked for again, and one that has ended is found.
        expects_batches = await self._outbox.expects_batches()
        now = self._now()
        # What is in hand when the read begins may be settled before it ends, and still look due in it.
        in_hand = set(self._in_hand)
        together: defaultdict[tuple[str, str], list[Due]] = defaultdict(list)
        for due in await self._outbox.due(now):
            if due.parcel["number"] not in in_hand:
                together[due.parcel["owner"], due.parcel["url"]].append(due)
        for some in together.values():
            self._in_hand.update(due.parcel["number"] for due in some)
            self._background.spawn(self._deliver(some))
        later = await self._outbox.next_due(now)
        wait = None if later is None else max(0.0, later - self._now())
        if expects_batches:
            return LOOK_FOR_BATCHES_S if wait is None else min(wait, LOOK_FOR_BATCHES_S)
        return wait

    async def _deliver(self, some: list[Due]) -> None:
        """All to one URL, at the same time; they are of different jobs, whose order among them is free."""
        pause = PAUSE_S[0]
        try:
            handed = await self._courier.deliver([due.parcel for due in some])
            calls = {one["number"]: one for one in handed}
            at = self._now()
            rulings = {
                due.parcel["number"]: self._ruling(due, calls[due.parcel["number"]], at)
                for due in some
                if due.parcel["number"] in calls
            }
            await self._outbox.settle(rulings)
            for outcome, count in Counter(OUTCOMES[r.state] for r in rulings.values()).items():
                self._metrics.webhook(outcome, count)
            pause = 0.0
        except (CourierLost, sqlite3.Error) as error:
            log.warning("%d webhooks are sent again: %s", len(some), error)
        finally:
            if pause:  # the same rows are due still, and must not be tried in a tight circle
                await asyncio.sleep(pause)
            self._in_hand.difference_update(due.parcel["number"] for due in some)
            self._woken.set()

    def _ruling(self, due: Due, handed: Handed, at: float) -> Ruling:
        call = CallMade(at=at, status=handed["status"], error=handed["error"], ms=handed["ms"])
        status = handed["status"]
        if status is not None and 200 <= status < 300:
            return Ruling(call, "delivered")
        why = handed["error"] or f"the receiver answered {status}"
        if status == GONE:
            gone = "the receiver answered 410: it wants no more"
            return Ruling(call, "failed", reason=gone, disabled=gone)
        if due.failing_since is not None and at - due.failing_since > DISABLE_AFTER_S:
            days = f"no success for {DISABLE_AFTER_S / 86_400:g} days; the last time: {why}"
            return Ruling(call, "failed", reason=days, disabled=days)
        if due.event == TEST or due.tries >= len(SCHEDULE_S):
            return Ruling(call, "failed", reason=why)
        delay = SCHEDULE_S[due.tries] * (1 + JITTER * self._jitter())
        return Ruling(call, "waiting", due=at + delay, reason=why)

    async def tidy(self) -> None:
        """For ever: take what has been over for long out of the log."""
        while True:
            forgotten = 0
            try:
                forgotten = await self._outbox.forget(self._now() - KEPT_S, FORGOTTEN_AT_ONCE)
            except sqlite3.Error as error:
                log.error("the log of deliveries was not tidied: %s", error)
            if forgotten < FORGOTTEN_AT_ONCE:
                await asyncio.sleep(TIDY_EVERY_S)

    async def measure(self) -> None:
        """For ever: how much waits, and how long the oldest of it has."""
        while True:
            try:
                waiting, oldest = await self._outbox.backlog()
                self._metrics.outbox(waiting, 0.0 if oldest is None else self._now() - oldest)
            except sqlite3.Error as error:
                log.error("the outbox was not measured: %s", error)
            await asyncio.sleep(MEASURE_EVERY_S)

    # ---- called by the ingress ----

    async def page(
        self, owner: str, wanted: DeliveryFilter, limit: int, before: int | None
    ) -> DeliveryPage:
        return await self._outbox.page(owner, wanted, limit, before)

    async def again(self, id: str, owner: str) -> Delivery | None:
        """Send it once more, whatever came of it before. None: this owner has no such delivery."""
        found = await self._outbox.again(id, owner, self._now())
        self.wake()
        return found

    async def test(self, owner: str, url: str) -> Delivery:
        found = await self._outbox.test(owner, url, self._now())
        self.wake()
        return found
