"""Quotas: whether an owner may order more, by what is theirs already.

Knows what waits, runs and was used; nothing of keys, and nothing of places in line, which `intake` gives.
A quota of seconds counts what waits and runs as if it were done: else one batch could exceed it a hundred
times.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence

from serve_app.jobs.cache import JobCache
from serve_app.jobs.estimates import Estimates
from serve_app.jobs.lines import Lines
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.jobs.store.used import DAY_S, day_of
from serve_app.messages import Allowance, JobError, Summary, Usage

ASK_AGAIN_S = 60.0
"""After which somebody whose jobs wait may try again."""


class OverQuota(Exception):
    """`retry_after`: seconds; None: time alone changes nothing."""

    def __init__(self, name: str, detail: str, retry_after: float | None) -> None:
        super().__init__(detail)
        title = "Your quota does not allow it"
        retryable = retry_after is not None
        self.error = JobError(code=f"quota_{name}", title=title, detail=detail, retryable=retryable)
        self.retry_after = retry_after


class Quotas:
    def __init__(
        self,
        store: SqliteStore,
        cache: JobCache,
        lines: Lines,
        estimates: Estimates,
        now: Callable[[], float],
    ) -> None:
        self._store, self._cache, self._lines = store, cache, lines
        self._estimates, self._now = estimates, now
        # By owner: orders on their way to the disk.
        self._arriving: defaultdict[str, list[Sequence[Summary]]] = defaultdict(list)

    @contextlib.contextmanager
    def counting(self, owner: str, orders: Sequence[Summary]) -> Generator[None]:
        """Meanwhile what these take is the owner's already: else many at once would all find room."""
        self._arriving[owner].append(orders)
        try:
            yield
        finally:
            self._arriving[owner].remove(orders)
            if not self._arriving[owner]:
                del self._arriving[owner]

    async def usage(self, owner: str) -> Usage:
        now = self._now()
        used = await self._store.used_by(owner, now)
        return Usage(
            waiting_jobs=self._lines.owners[owner],
            device_seconds=used.device_seconds,
            kept_bytes=used.kept_bytes,
            day_ends_at=float((day_of(now) + 1) * DAY_S),
        )

    async def why_not(
        self, owner: str, quota: Allowance, orders: Sequence[Summary]
    ) -> OverQuota | None:
        """Why these orders are too much; None: they are not. How many may wait is not looked at, unless none
        may. Raises sqlite3.Error."""
        try:
            await self._check(owner, quota, orders)
        except OverQuota as over:
            return over
        return None

    async def _check(self, owner: str, quota: Allowance, orders: Sequence[Summary]) -> None:
        for name, most in quota.items():
            if most == 0:
                raise OverQuota(name, f"{name} is 0: nothing may be ordered with your key.", None)
        if quota.keys() <= {"waiting_jobs"}:
            return
        used = await self.usage(owner)
        most = quota.get("kept_bytes")
        if most is not None and used["kept_bytes"] >= most:
            detail = f"Your files have {used['kept_bytes']} bytes, of {most}. Delete jobs first."
            raise OverQuota("kept_bytes", detail, None)
        most = quota.get("device_seconds")
        if most is not None:
            due = self._due(owner, orders)
            if used["device_seconds"] + due > most:
                detail = (
                    f"Of {most} device seconds of today {used['device_seconds']:.0f} are used, and what "
                    f"waits, runs and is ordered now takes {due:.0f} more."
                )
                alone = sum(self.seconds_of(order) for order in orders)
                left = used["day_ends_at"] - self._now()
                raise OverQuota("device_seconds", detail, None if alone > most else max(1.0, left))

    async def seconds_left(self, owner: str, quota: Allowance) -> float:
        """Device seconds that the owner may still order today. Raises sqlite3.Error."""
        if (most := quota.get("device_seconds")) is None:
            return float("inf")
        used = await self._store.used_by(owner, self._now())
        return most - used.device_seconds - self._due(owner, ())

    def seconds_of(self, order: Summary) -> float:
        """Device seconds that it takes; 0 where nothing has run yet to judge by."""
        return self._estimates.seconds_of(order["pool"], order["work"])

    def too_long(self, quota: Allowance, seconds: float, left: float) -> OverQuota:
        most, now = quota.get("device_seconds", 0), self._now()
        detail = (
            f"What is new of this takes {seconds:.0f} device seconds, and {max(0.0, left):.0f} of your {most}"
            " of today are left."
        )
        day_ends = (day_of(now) + 1) * DAY_S - now
        return OverQuota("device_seconds", detail, None if seconds > most else max(1.0, day_ends))

    def places(self, owner: str, quota: Allowance, arriving: int) -> float:
        """Jobs of the owner that may still join the line; `arriving`: those on their way to it."""
        most = quota.get("waiting_jobs")
        return float("inf") if most is None else most - self._lines.owners[owner] - arriving

    def too_many(self, owner: str, quota: Allowance, orders: int) -> OverQuota:
        most, waiting = quota.get("waiting_jobs", 0), self._lines.owners[owner]
        detail = f"{waiting} of your jobs wait, of {most}; this makes {orders} more."
        return OverQuota("waiting_jobs", detail, ASK_AGAIN_S if orders <= most else None)

    def _due(self, owner: str, orders: Sequence[Summary]) -> float:
        """Device seconds of what the owner's jobs that live, and these orders, will take; 0 where nothing has
        run yet to judge by."""
        work = self._lines.work_of(owner)
        for job in self._cache.running.values():
            if job.owner == owner:
                work[job.pool] += job.work
        for order in (*orders, *(one for some in self._arriving.get(owner, ()) for one in some)):
            work[order["pool"]] += order["work"]
        return sum(self._estimates.seconds_of(pool, amount) for pool, amount in work.items())
