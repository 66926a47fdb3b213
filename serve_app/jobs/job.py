"""Job: what a user ordered, and where it stands. The diagram below is every move there is.

Knows nothing of how jobs are stored, launched or shown.

              submit
                |
                v     (a)          (b)
             PENDING -----> STARTED -----> SUCCESS
                ^            |  |   (c)
                '------------'  +--------> FAILURE
                   (d)          |
              RETRY <-----------'
                |     (e)
                '-- (a) --> STARTED

(a) a renderer admitted the attempt    (b) its files were committed
(c) it failed for good, or too often
(d) nothing of the attempt counts: the renderer was gone before it admitted anything
(e) the attempt was lost after it was admitted; it runs again, under a higher fence
From every state that is not final a job can become REVOKED: cancelled, or past its deadline.
PENDING and RETRY also cover an attempt that is launched but not admitted yet.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from serve_app.messages import ImageFile, JobError, JobView, PreviewImage


class Status(StrEnum):
    PENDING = "PENDING"  # waiting for its first run
    STARTED = "STARTED"  # a renderer works on it
    RETRY = "RETRY"  # waiting to run again
    SUCCESS = "SUCCESS"  # its files are published
    FAILURE = "FAILURE"  # it ended without files, and `error` says why
    REVOKED = "REVOKED"  # cancelled, or past its deadline

    @property
    def terminal(self) -> bool:
        return self in (Status.SUCCESS, Status.FAILURE, Status.REVOKED)

    @property
    def waiting(self) -> bool:
        return self in (Status.PENDING, Status.RETRY)


PRIORITIES = {"high": -600.0, "normal": 0.0, "low": 600.0}
"""Seconds by which an order of this priority counts as ordered later than it was, among its client's."""


@dataclass(frozen=True)
class Job:
    """One job at one moment. Times are unix seconds, UTC."""

    job_id: str
    owner: str
    params: dict[str, Any]
    created_at: float
    order: int  # its number: grows with every job ever accepted; microseconds, as a rule
    client: str = ""  # whom fairness counts it for
    priority: str = "normal"
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    deadline: float | None = None  # when it is revoked, if it still lives
    retry_of: str | None = None
    status: Status = Status.PENDING
    fence: int = 0  # number of the newest attempt; only its holder may publish
    attempts: int = 0  # replica deaths after admission: what `max_attempts` bounds
    alone: bool = False  # was on a replica that died: runs without company until it succeeds
    started_at: float | None = None
    completed_at: float | None = None
    images: tuple[ImageFile, ...] = ()
    error: JobError | None = None
    # ---- never stored: true only within one life of the registry ----
    waiting_for: str | None = None
    progress: dict[str, Any] | None = None
    reported_at: float = 0.0  # monotonic seconds, of `progress`
    preview: PreviewImage | None = None
    seq: int = 0  # number of its last change, within the epoch

    @property
    def key(self) -> float:
        """Place among its client's jobs, smaller first. A priority is a head start and no more, so a
        low job waits for those that were ordered up to ten minutes after it, and for no others."""
        return self.order + PRIORITIES[self.priority] * 1e6

    @property
    def work(self) -> float:
        """What it asks of a device, in megapixel steps; guidance counts twice."""
        return work_of(self.params)

    def evolve(self, **changes: Any) -> Job:
        return dataclasses.replace(self, **changes)

    def view(
        self,
        epoch: int,
        *,
        position: int | None = None,
        eta: float | None = None,
        paused: str | None = None,
        retention_s: float | None = None,
    ) -> JobView:
        """What the outside may know. `position`, `eta` and `paused` are the line's to say."""
        waiting = self.status.waiting
        ended = self.completed_at
        return JobView(
            job_id=self.job_id,
            owner=self.owner,
            client=self.client,
            status=self.status.value,
            rev=f"{epoch}.{self.seq}",
            created_at=self.created_at,
            started_at=self.started_at,
            completed_at=ended,
            deadline=self.deadline,
            expires_at=None if ended is None or retention_s is None else ended + retention_s,
            attempts=self.attempts,
            fence=self.fence,
            queue_position=position if waiting else None,
            eta_seconds=None if self.status.terminal else eta,
            waiting_for=(self.waiting_for or paused or "turn") if waiting else None,
            progress=self.progress,
            preview=self.preview,
            images=list(self.images),
            error=self.error,
            params=self.params,
            priority=self.priority,
            tags=list(self.tags),
            metadata=self.metadata,
            retry_of=self.retry_of,
            queue_ms=_ms(self.created_at, self.started_at),
            execution_ms=_ms(self.started_at, self.completed_at),
        )


def work_of(params: dict[str, Any]) -> float:
    """Megapixel steps of an order, GenerationParams as a dict."""
    rows = 2 if params["guidance_scale"] > 1 else 1
    megapixels = params["width"] * params["height"] / 1e6
    return params.get("n", 1) * params["steps"] * rows * megapixels


def _ms(start: float | None, end: float | None) -> int | None:
    return None if start is None or end is None else max(0, round((end - start) * 1000))
