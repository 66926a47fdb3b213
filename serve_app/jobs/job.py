"""Job: what a user ordered, and where it stands.

Knows nothing of how jobs are stored, launched or shown. These are all moves between states there are;
`MOVES` below is the same table, and a test holds what the registry does against it.

              submit
                |
                v      a             c
             PENDING ------> STARTED ------> SUCCESS
                |             |  ^  |  d
              b |           b |  |  '------> FAILURE <--.
                |             v  | a                    | d
                '---------> RETRY                       |
                                                  PENDING, RETRY

    PENDING, STARTED, RETRY -- e --> REVOKED

a: a renderer admitted an attempt. b: the attempt was lost; the job runs again under a higher fence.
c: its files were committed. d: it failed for good, or too often. e: it was cancelled, or its deadline passed.
A job whose attempt is launched but not admitted yet is PENDING or RETRY too, and stays so if the attempt
ends before any renderer admitted it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from serve_app.messages import ImageFile, JobError, JobView, Labels, PreviewImage, Summary
from serve_app.priorities import HEAD_START_S


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


MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset(
        {Status.STARTED, Status.RETRY, Status.FAILURE, Status.REVOKED},
    ),
    Status.STARTED: frozenset(
        {Status.RETRY, Status.SUCCESS, Status.FAILURE, Status.REVOKED},
    ),
    Status.RETRY: frozenset({Status.STARTED, Status.FAILURE, Status.REVOKED}),
    Status.SUCCESS: frozenset(),
    Status.FAILURE: frozenset(),
    Status.REVOKED: frozenset(),
}
"""From each state, the states that may follow."""


def place_in_line(number: int, priority: str) -> float:
    """Sorts the waiting jobs of one client, smaller first. A priority is a head start and no more, so a low
    job waits for those that were ordered up to ten minutes after it, and for no others."""
    return number + HEAD_START_S[priority] * 1e6


@dataclass(frozen=True)
class Job:
    """One job at one moment. Times are unix seconds, UTC."""

    job_id: str
    owner: str
    params: dict[str, Any]  # sealed: only the renderer and the files' metadata look inside
    summary: Summary  # what everybody else may know of `params`
    labels: Labels
    created_at: float
    number: int  # strictly increasing, normally `created_at` in microseconds; the primary key
    deadline: float | None = None  # when it is revoked, if it still lives
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
    def client(self) -> str:
        """Whom fairness counts it for."""
        return self.labels["client"]

    @property
    def priority(self) -> str:
        return self.labels["priority"]

    @property
    def work(self) -> float:
        """What it asks of a device, in megapixel steps."""
        return self.summary["work"]

    @property
    def place(self) -> float:
        return place_in_line(self.number, self.priority)

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
            labels=self.labels,
            queue_ms=_ms(self.created_at, self.started_at),
            execution_ms=_ms(self.started_at, self.completed_at),
        )


def _ms(start: float | None, end: float | None) -> int | None:
    return None if start is None or end is None else max(0, round((end - start) * 1000))
