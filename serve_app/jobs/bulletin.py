"""Bulletin: what all who watch the registry are told of changed jobs, made and encoded once for all of them.

Knows views as dicts; nothing of who watches, nor up to where each of them has read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from serve_app.encoding import encoded_view
from serve_app.jobs.job import Job
from serve_app.messages import JobView

KEPT_S = 0.05
"""A view is told as it was made for so long, or twice as long. By then its place and its ETA are that old."""


class _Told:
    __slots__ = ("encoded", "revision", "view")

    def __init__(self, revision: int, view: JobView) -> None:
        self.revision, self.view = revision, view
        self.encoded: bytes | None = None  # once somebody watches


class Bulletin:
    """`view` makes what is told of a job."""

    def __init__(self, view: Callable[[Job], JobView]) -> None:
        self._view = view
        self._turned_at = float("-inf")  # monotonic seconds
        self._newer: dict[str, _Told] = {}  # by job id
        self._older: dict[str, _Told] = {}

    def view(self, job: Job) -> JobView:
        """What is told of the job now. Not to be changed: others are told the same."""
        self._turn()
        return self._told(job).view

    def of(self, jobs: Iterable[Job]) -> bytes:
        """Their views, one after the other, as `encoding.decoded_views` reads them."""
        self._turn()
        return b"".join([self._encoded(self._told(job)) for job in jobs])

    def _encoded(self, told: _Told) -> bytes:
        if told.encoded is None:
            told.encoded = encoded_view(told.view)
        return told.encoded

    def _told(self, job: Job) -> _Told:
        told = self._newer.get(job.job_id) or self._older.get(job.job_id)
        if told is None or told.revision != job.seq:
            told = self._newer[job.job_id] = _Told(job.seq, self._view(job))
        return told

    def _turn(self) -> None:
        now = time.monotonic()
        if now - self._turned_at > KEPT_S:
            still_good = now - self._turned_at < 2 * KEPT_S
            self._older, self._newer = (self._newer if still_good else {}), {}
            self._turned_at = now
