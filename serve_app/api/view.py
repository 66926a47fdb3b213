"""LocalView: each ingress keeps a copy of recent jobs, so that most polls need no call to the registry.

Knows no HTTP. `follow` keeps it up to date through a RegistryClient; the view itself does no I/O.
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
from serve_app.api.subscribers import Subscribers
from serve_app.encoding import decoded_views
from serve_app.errors import Unavailable
from serve_app.messages import TERMINAL, JobView, WatchReply

MAX_AGE_S = 1.0  # of what is answered without asking the registry
WATCH_TIMEOUT_S = 0.5  # half of MAX_AGE_S, so that a view stays fresh while nothing changes
COALESCE_S = 0.05
"""Longest pause between two watches: where much happens, changes are fetched together, in <= 20 calls/s."""
PAUSE_PER_CHANGE_S = 0.005
"""Where little happens the pause is shorter: whoever waits for one job sees its end at once."""
BACKOFF_S = (0.1, 5.0)  # first and longest pause while the registry does not answer

log = logging.getLogger("assets.api")


def rev_of(job: JobView) -> tuple[int, int]:
    """`rev` as numbers. As text, "1.10" would sort before "1.9"."""
    epoch, _, n = job["rev"].partition(".")
    return int(epoch), int(n)


class LocalView:
    """All jobs that run, and the `max_others` newest of those that wait or have ended. What it returns for
    a job never goes back to an older revision. A job that it does not hold may still exist: ask the
    registry before you answer 404.
    """

    def __init__(
        self, max_others: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_others = max_others
        self._clock = clock
        self._running: dict[str, JobView] = {}
        self._others: OrderedDict[str, JobView] = OrderedDict()
        self._heard_at: dict[
            str, float
        ] = {}  # when the registry last sent each job; same keys as both
        self.subscribers = Subscribers()
        self._fed_at = -math.inf
        self.cursor = (0, 0)  # epoch and sequence number of the last watch
        self.successors = 0  # ingresses that came up after this one
        self._deployment = 0

    def apply(self, reply: WatchReply) -> bool:
        """Take in what changed. False: the reply is older than the last one, and is ignored."""
        cursor = (reply["epoch"], reply["seq"])
        if cursor < self.cursor:
            return False
        if reply["resync"]:
            self._start_over()
        for job in decoded_views(reply["views"]):
            self._put(job)
        for job_id in reply["gone"]:
            self.forget(job_id)
        for batch in reply.get("batches", ()):
            self.subscribers.tell_batch(batch)
        self.cursor = cursor
        if reply["deployment"] > self._deployment and self._fed_at > -math.inf:
            self.successors += 1
        self._deployment = reply["deployment"]  # a restarted registry counts from 0 again
        self._fed_at = self._clock()
        if reply["resync"]:
            self.subscribers.tell_all_that_changes_may_lack()
        return True

    def remember(self, job: JobView) -> JobView:
        """Take in one job that the registry was asked for directly. Returns its newest known state.

        A live job older than the cursor is not cached: its end may already be evicted from the registry's
        memory, and then nothing would ever remove it here.
        """
        held = job["job_id"] in self._heard_at
        if held or job["status"] in TERMINAL or rev_of(job) > self.cursor:
            self._put(job)
        return self.get(job["job_id"]) or job

    def forget(self, job_id: str) -> None:
        """The job was deleted."""
        held = self.get(job_id)
        self._running.pop(job_id, None)
        self._others.pop(job_id, None)
        self._heard_at.pop(job_id, None)
        if held is not None and held["status"] not in TERMINAL:
            # No change will report its end.
            self.subscribers.tell_all_that_changes_may_lack()

    def get(self, job_id: str) -> JobView | None:
        return self._running.get(job_id) or self._others.get(job_id)

    def after(self, rev: tuple[int, int]) -> list[JobView]:
        """The held jobs whose revision is newer than `rev`."""
        held = [*self._running.values(), *self._others.values()]
        return [job for job in held if rev_of(job) > rev]

    def age(self) -> float:
        """Seconds since the last reply of the registry."""
        return self._clock() - self._fed_at

    def age_of(self, job: JobView) -> float:
        """Seconds since the registry sent this state of the job."""
        return self._clock() - self._heard_at.get(job["job_id"], self._clock())

    @property
    def fresh(self) -> bool:
        return self.age() <= MAX_AGE_S

    def good_enough(self, job: JobView) -> bool:
        """The held state of the job is at most a second old. A waiting job needs a reply of its own: its
        place in line changes without a change of the job."""
        if self._heard_at.get(job["job_id"]) == -math.inf:
            return False  # held from before a resync
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
        self._heard_at[job["job_id"]] = self._clock()
        if job["status"] == "STARTED":
            self._running[job["job_id"]] = job
        else:
            self._others[job["job_id"]] = job
            self._trim()
        # A revision that the watch has already passed is no change: somebody only asked for an old job.
        if rev_of(job) > (self.cursor if held is None else rev_of(held)):
            self.subscribers.tell(job)

    def _trim(self) -> None:
        while len(self._others) > self._max_others:
            job_id, _ = self._others.popitem(last=False)
            del self._heard_at[job_id]

    def _start_over(self) -> None:
        """After a resync any held job may have changed or be gone. They are kept only so that no answer goes
        back to an older revision."""
        self._others.update(self._running)
        self._running.clear()
        self._heard_at = dict.fromkeys(self._others, -math.inf)
        self._trim()


async def follow(registry: RegistryClient, view: LocalView) -> None:
    """Keep `view` fresh until cancelled. One loop per ingress process."""
    pause, longest = BACKOFF_S
    while True:
        try:
            reply = await registry.watch(*view.cursor, WATCH_TIMEOUT_S)
            before = view.cursor
            if view.apply(reply):
                pause = BACKOFF_S[0]
                changes = reply["seq"] - before[1] if reply["epoch"] == before[0] else math.inf
                await asyncio.sleep(min(COALESCE_S, changes * PAUSE_PER_CHANGE_S))
                continue
            log.warning("a registry of the older epoch %d answered", reply["epoch"])
        except Unavailable as error:
            log.warning("the registry does not answer: %s", error.detail)
        except Exception:
            # Watches tell the registry that an application exists: without them it launches nothing.
            log.exception("the watch on the registry failed; it goes on")
        # Random, because every ingress lost the registry at the same moment.
        await asyncio.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, longest)
