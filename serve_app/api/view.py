"""LocalView: a copy of the jobs that matter now in each ingress, so that pollers do not reach the registry.

Knows no HTTP and does no I/O itself; `follow` feeds it from a RegistryClient.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable

from serve_app.api.registry_client import RegistryClient
from serve_app.errors import Unavailable
from serve_app.messages import JobView, WatchReply

TERMINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})

MAX_AGE_S = 1.0  # an older view does not answer on its own
WATCH_TIMEOUT_S = 0.5  # half of it: a quiet registry still proves in time that nothing changed
COALESCE_S = 0.05  # changes that come together are fetched together: <= 20 calls/s on the actor
BACKOFF_S = (0.1, 5.0)  # first and longest pause while the registry is away

log = logging.getLogger("assets.api")


def rev_of(job: JobView) -> tuple[int, int]:
    """`rev` as numbers: as text, "1.10" sorts before "1.9"."""
    epoch, _, n = job["rev"].partition(".")
    return int(epoch), int(n)


Subscriber = Callable[[JobView | None], None]
"""Called with every job that changed; with None when changes may have been missed."""


class LocalView:
    """Jobs that run, and the last `max_others` that wait or have ended. What it says of a job never goes
    back. A job it does not hold may still exist: ask the registry before saying otherwise.
    """

    def __init__(
        self, max_others: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_others = max_others
        self._clock = clock
        self._running: dict[str, JobView] = {}
        self._others: OrderedDict[str, JobView] = OrderedDict()
        self._told_at: dict[str, float] = {}  # of every job that is held
        self._subscribers: set[Subscriber] = set()
        self._fed_at = -math.inf
        self.cursor = (0, 0)
        self.successors = 0  # ingresses that came up since this view is fed
        self._deployment = 0

    def apply(self, reply: WatchReply) -> bool:
        """Take in what changed. False: the reply is older than what is held, so it says nothing."""
        cursor = (reply["epoch"], reply["seq"])
        if cursor < self.cursor:
            return False
        if reply["resync"]:
            self._start_over()
        for job in reply["jobs"]:
            self._put(job)
        for job_id in reply["gone"]:
            self.forget(job_id)
        self.cursor = cursor
        if reply["deployment"] > self._deployment and self._fed_at > -math.inf:
            self.successors += 1
        self._deployment = reply["deployment"]  # it begins anew with a restarted registry
        self._fed_at = self._clock()
        if reply["resync"]:
            self._tell(None)
        return True

    def remember(self, job: JobView) -> JobView:
        """Take in one job that was asked of the registry directly; returns the newest of it.

        A live job older than the cursor is not cached: its end may already be evicted, and then nothing
        would ever remove it.
        """
        held = job["job_id"] in self._told_at
        if held or job["status"] in TERMINAL or rev_of(job) > self.cursor:
            self._put(job)
        return self.get(job["job_id"]) or job

    def forget(self, job_id: str) -> None:
        """It is deleted."""
        held = self.get(job_id)
        self._running.pop(job_id, None)
        self._others.pop(job_id, None)
        self._told_at.pop(job_id, None)
        if held is not None and held["status"] not in TERMINAL:
            self._tell(None)  # its end was not heard

    def get(self, job_id: str) -> JobView | None:
        return self._running.get(job_id) or self._others.get(job_id)

    def after(self, rev: tuple[int, int]) -> list[JobView]:
        """The jobs held that have changed since."""
        held = [*self._running.values(), *self._others.values()]
        return [job for job in held if rev_of(job) > rev]

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Returns what ends it."""
        self._subscribers.add(subscriber)
        return lambda: self._subscribers.discard(subscriber)

    def age(self) -> float:
        """Seconds since the registry was last heard."""
        return self._clock() - self._fed_at

    def age_of(self, job: JobView) -> float:
        """Seconds since the registry said this of the job."""
        return self._clock() - self._told_at.get(job["job_id"], self._clock())

    @property
    def fresh(self) -> bool:
        return self.age() <= MAX_AGE_S

    def good_enough(self, job: JobView) -> bool:
        """What is held of it is at most a second old. A place in line changes without the job."""
        if self._told_at.get(job["job_id"]) == -math.inf:
            return False  # of before a new start
        if job["status"] in TERMINAL:
            return True
        return self.fresh and (job["status"] == "STARTED" or self.age_of(job) <= MAX_AGE_S)

    def __len__(self) -> int:
        return len(self._running) + len(self._others)

    def _put(self, job: JobView) -> None:
        held = self.get(job["job_id"])
        if held is not None and rev_of(job) < rev_of(held):
            return
        self._running.pop(job["job_id"], None)
        self._others.pop(job["job_id"], None)
        self._told_at[job["job_id"]] = self._clock()
        if job["status"] == "STARTED":
            self._running[job["job_id"]] = job
        else:
            self._others[job["job_id"]] = job
            self._trim()
        # What the watch has passed is no news: somebody only asked for an old job.
        if rev_of(job) > (self.cursor if held is None else rev_of(held)):
            self._tell(job)

    def _trim(self) -> None:
        while len(self._others) > self._max_others:
            job_id, _ = self._others.popitem(last=False)
            del self._told_at[job_id]

    def _start_over(self) -> None:
        """Any job may have moved on or gone: what is held only bounds what may still be said."""
        self._others.update(self._running)
        self._running.clear()
        self._told_at = dict.fromkeys(self._others, -math.inf)
        self._trim()

    def _tell(self, job: JobView | None) -> None:
        for subscriber in list(self._subscribers):
            subscriber(job)


async def follow(registry: RegistryClient, view: LocalView) -> None:
    """Keep `view` fresh until cancelled. One loop per ingress process."""
    pause, longest = BACKOFF_S
    while True:
        try:
            reply = await registry.watch(*view.cursor, WATCH_TIMEOUT_S)
            if view.apply(reply):
                pause = BACKOFF_S[0]
                await asyncio.sleep(COALESCE_S)
                continue
            log.warning("a registry of an older epoch answered: %d", reply["epoch"])
        except Unavailable as error:
            log.warning("the registry does not answer: %s", error.detail)
        except Exception:
            # By this watch the registry knows that there is an application: it must not end.
            log.exception("the watch on the registry failed; it goes on")
        # Every ingress lost the same registry at the same moment: do not come back in step.
        await asyncio.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, longest)
