"""LocalView: a copy of the live jobs in each ingress, so that pollers do not reach the registry.

Knows no HTTP and does no I/O itself; `follow` feeds it from a RegistryPort.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable

from serve_app.api.ports import RegistryPort
from serve_app.errors import Unavailable
from serve_app.messages import JobView, WatchReply

WAITING = frozenset({"PENDING", "RETRY"})
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


class LocalView:
    """Live jobs and the last `max_finished` finished ones. What it says of a job never goes back.

    A job it does not hold may still exist: ask the registry before saying otherwise.
    """

    def __init__(
        self, max_finished: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_finished = max_finished
        self._clock = clock
        self._live: dict[str, JobView] = {}
        self._finished: OrderedDict[str, JobView] = OrderedDict()
        self._line: list[tuple[int, str]] = []  # (order, job_id) of those who wait, sorted
        self._fed_at = -math.inf
        self.cursor = (0, 0)
        self.slots = 0
        self.seconds_per_job: float | None = None
        self.paused: str | None = None

    def apply(self, reply: WatchReply) -> bool:
        """Take in what changed. False: the reply is older than what is held, so it says nothing."""
        cursor = (reply["epoch"], reply["seq"])
        if cursor < self.cursor:
            return False
        if reply["resync"]:
            self._keep_live({job["job_id"] for job in reply["jobs"]})
        for job in reply["jobs"]:
            self._put(job)
        self.cursor = cursor
        self.slots = reply["slots"]
        self.seconds_per_job = reply["seconds_per_job"]
        self.paused = reply["paused"]
        self._fed_at = self._clock()
        return True

    def remember(self, job: JobView) -> JobView:
        """Take in one job that was asked of the registry directly; returns the newest of it.

        A live job that is not held stays out: no watch reply might ever come to remove it.
        """
        if job["status"] in TERMINAL or job["job_id"] in self._live:
            self._put(job)
        return self.get(job["job_id"]) or job

    def get(self, job_id: str) -> JobView | None:
        return self._live.get(job_id) or self._finished.get(job_id)

    def age(self) -> float:
        """Seconds since the registry was last heard."""
        return self._clock() - self._fed_at

    @property
    def fresh(self) -> bool:
        return self.age() <= MAX_AGE_S

    def queue_position(self, job: JobView) -> int | None:
        """1 is next. None: the job does not wait. A job too new to be held has a place too."""
        return bisect_left(self._line, _place(job)) + 1 if job["status"] in WAITING else None

    def eta_seconds(self, job: JobView, now: float) -> float | None:
        """Seconds until the job is done, if the ones before it take as long as the recent ones.

        `now` is unix time. None: final, nothing has run yet to judge by, or nothing is launched.
        """
        if job["status"] in TERMINAL or self.seconds_per_job is None or self.slots < 1:
            return None
        if job["status"] not in WAITING:
            return max(0.0, self.seconds_per_job - (now - (job["started_at"] or now)))
        if self.paused:
            return None
        running = len(self._live) - len(self._line)
        ahead = running + bisect_left(self._line, _place(job))
        # Full slots free one place every seconds_per_job / slots.
        return self.seconds_per_job * (1 + max(0, ahead - self.slots + 1) / self.slots)

    def waiting_for(self, job: JobView) -> str | None:
        """Why a waiting job does not run: its own reason, or what holds all of them."""
        return (job["waiting_for"] or self.paused) if job["status"] in WAITING else None

    def __len__(self) -> int:
        return len(self._live) + len(self._finished)

    def _put(self, job: JobView) -> None:
        held = self.get(job["job_id"])
        if held is not None:
            if rev_of(job) <= rev_of(held):
                return
            self._drop(held)
        if job["status"] in TERMINAL:
            self._finished[job["job_id"]] = job
            if len(self._finished) > self._max_finished:
                self._finished.popitem(last=False)
            return
        self._live[job["job_id"]] = job
        if job["status"] in WAITING:
            insort(self._line, _place(job))

    def _drop(self, job: JobView) -> None:
        self._finished.pop(job["job_id"], None)
        if self._live.pop(job["job_id"], None) and job["status"] in WAITING:
            del self._line[bisect_left(self._line, _place(job))]

    def _keep_live(self, job_ids: set[str]) -> None:
        """Forget live jobs the registry no longer has; finished ones do not change and may stay."""
        self._live = {key: job for key, job in self._live.items() if key in job_ids}
        self._line = sorted(_place(j) for j in self._live.values() if j["status"] in WAITING)


def _place(job: JobView) -> tuple[int, str]:
    return job["order"], job["job_id"]


async def follow(port: RegistryPort, view: LocalView) -> None:
    """Keep `view` fresh until cancelled. One loop per ingress process."""
    pause, longest = BACKOFF_S
    while True:
        try:
            reply = await port.watch(*view.cursor, WATCH_TIMEOUT_S)
        except Unavailable as error:
            log.warning("the registry does not answer: %s", error.detail)
        else:
            if view.apply(reply):
                pause = BACKOFF_S[0]
                await asyncio.sleep(COALESCE_S)
                continue
            log.warning("a registry of an older epoch answered: %d", reply["epoch"])
        # Every ingress lost the same registry at the same moment: do not come back in step.
        await asyncio.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, longest)
