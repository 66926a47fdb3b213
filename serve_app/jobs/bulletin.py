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


class Bulletin:
    """`view` makes what is told of a job."""

    def __init__(self, view: Callable[[Job], JobView]) -> None:
        self._view = view
        self._turned_at = float("-inf")  # monotonic seconds
        # job id -> its revision, and the encoded view
        self._newer: dict[str, tuple[int, bytes]] = {}
        self._older: dict[str, tuple[int, bytes]] = {}

    def of(self, jobs: Iterable[Job]) -> bytes:
        """Their views, one after the other, as `encoding.decoded_views` reads them."""
        now = time.monotonic()
        if now - self._turned_at > KEPT_S:
            still_good = now - self._turned_at < 2 * KEPT_S
            self._older, self._newer = (self._newer if still_good else {}), {}
            self._turned_at = now
        return b"".join(self._encoded(job) for job in jobs)

    def _encoded(self, job: Job) -> bytes:
        revision, encoded = self._newer.get(job.job_id) or self._older.get(job.job_id) or (-1, b"")
        if revision != job.seq:
            encoded = encoded_view(self._view(job))
            self._newer[job.job_id] = job.seq, encoded
        return encoded
