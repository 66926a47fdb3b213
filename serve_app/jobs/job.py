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
PENDING and RETRY also cover an attempt that is launched but not admitted yet.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from serve_app.messages import ImageFile, JobError, JobView


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


@dataclass(frozen=True)
class Job:
    """One job at one moment. Times are unix seconds, UTC."""

    job_id: str
    owner: str
    params: dict[str, Any]
    created_at: float
    order: int  # place in line, smaller first; kept through every retry
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
    seq: int = 0  # number of its last change, within the epoch

    def evolve(self, **changes: Any) -> Job:
        return dataclasses.replace(self, **changes)

    def view(self, epoch: int) -> JobView:
        """What the outside may know."""
        return JobView(
            job_id=self.job_id,
            owner=self.owner,
            status=self.status.value,
            rev=f"{epoch}.{self.seq}",
            order=self.order,
            created_at=self.created_at,
            started_at=self.started_at,
            completed_at=self.completed_at,
            attempts=self.attempts,
            fence=self.fence,
            waiting_for=self.waiting_for if self.status.waiting else None,
            progress=self.progress,
            images=list(self.images),
            error=self.error,
            params=self.params,
            queue_ms=_ms(self.created_at, self.started_at),
            execution_ms=_ms(self.started_at, self.completed_at),
        )


def _ms(start: float | None, end: float | None) -> int | None:
    return None if start is None or end is None else max(0, round((end - start) * 1000))
