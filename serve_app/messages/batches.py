"""A batch as it crosses a process border: how it is submitted, what is asked of it, how it is shown.

Shapes only.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from serve_app.messages.jobs import JobError, JobView, Labels, Summary
from serve_app.messages.quotas import Allowance
from serve_app.messages.webhooks import Webhook


class BatchRow(TypedDict):
    """One order of a batch."""

    job_id: str  # UUIDv7, minted by the ingress
    key: bytes  # of the order: equal orders of one file have different ones
    name: str | None  # of its files in an archive
    params: str  # as JSON: 10,000 of them travel as text
    summary: Summary
    labels: Labels


class BatchSubmission(TypedDict):
    batch_id: str  # UUIDv7, minted by the ingress
    owner: str
    name: str  # empty: it has none
    rows: list[BatchRow]
    reuse: bool  # what a batch of this owner and name has made, or makes, is not made again
    deadline: float  # as of a `Submission`
    idempotency_key: NotRequired[str | None]
    body_hash: NotRequired[str]
    cancel_after_s: NotRequired[float | None]
    webhook: NotRequired[Webhook | None]  # called once, when all its jobs have ended
    quota: NotRequired[Allowance]  # of whoever orders


class Again(TypedDict):
    """A row of a batch that is ordered once more."""

    row: int
    instead_of: str  # id of the job that ended without pictures
    order: BatchRow


class BatchRetry(TypedDict):
    batch_id: str
    owner: str
    rows: list[Again]
    deadline: float
    quota: NotRequired[Allowance]  # of whoever orders


class BatchReply(TypedDict):
    """Exactly one of batch or error."""

    batch: NotRequired[BatchView]
    replayed: NotRequired[bool]
    error: NotRequired[JobError]  # codes as of a `SubmitReply`
    retry_after: NotRequired[float]  # seconds


class FailedRow(TypedDict):
    row: int
    job_id: str
    error: JobError


class BatchView(TypedDict):
    """What the outside may know of a batch. Times are unix seconds, UTC."""

    batch_id: str
    owner: str
    name: str
    number: int  # its place in time
    status: str  # in the words of jobs: final when every job is
    rev: str  # grows with each change of a row
    created_at: float
    completed_at: float | None
    size: int  # rows
    counts: dict[str, int]  # by the status of their jobs, or DELETED
    reused: int
    reused_rows: list[tuple[int, int]]  # first and last row of each run of reused ones
    failed: list[FailedRow]  # the first ones
    eta_seconds: float | None


class BatchRowView(TypedDict):
    """A row as it is now. `status`: of its job, or DELETED; REVOKED where the job was left to another batch.
    `job` None: it was deleted."""

    row: int
    name: str | None
    key: bytes
    reused: bool
    status: str
    job: JobView | None


class BatchFilter(TypedDict, total=False):
    """Which batches a list shows. Times are unix seconds."""

    name: str
    statuses: list[str]  # of the batches
    created_after: float
    created_before: float


class BatchPage(TypedDict):
    """Batches, newest first; `older` and `newer` as of a `JobPage`."""

    batches: list[BatchView]
    older: int | None
    newer: int | None


class BatchPlan(TypedDict):
    """What a submission would do now."""

    reused_rows: list[tuple[int, int]]
    room: int  # jobs of this owner that may be ordered now
    seconds: float | None  # until all would be done
