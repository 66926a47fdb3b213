"""A batch, its rows and pages of batches, as they stand in the store or are on their way into it.

Knows columns; asks nothing and changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from serve_app.jobs.job import Job
from serve_app.jobs.store.batch_tables import COUNTS, LIVE_STATUSES, STATUSES


@dataclass(frozen=True, slots=True)
class NewRow:
    """An order on its way into a batch. `params`: of the job, as JSON."""

    job: Job
    params: str
    key: bytes
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBatch:
    """A row of the table `batches`."""

    number: int
    batch_id: str
    owner: str
    name: str
    created_at: float
    completed_at: float | None
    size: int
    reused_rows: list[tuple[int, int]]  # first and last of each run
    reused: int
    changes: int
    counts: dict[str, int]  # by status

    @property
    def status(self) -> str:
        """In the words of jobs: final when every job is. Deleted jobs say nothing, unless no other is
        left."""
        counts = self.counts
        if live := sum(counts[status] for status in LIVE_STATUSES):
            begun = counts["PENDING"] < live or counts["SUCCESS"] + counts["FAILURE"]
            return "STARTED" if begun else "PENDING"
        if counts["FAILURE"]:
            return "FAILURE"
        return "REVOKED" if counts["REVOKED"] else "SUCCESS"


@dataclass(frozen=True, slots=True)
class InsertedBatch:
    """The result of `insert`: which batch stands for the order, and the jobs that are new with it."""

    batch_id: str
    existed: bool  # it was submitted before, with the same id or the same idempotency key
    same_body: bool
    fresh: list[Job]


@dataclass(frozen=True, slots=True)
class StoredRow:
    row: int
    name: str | None
    key: bytes
    reused: bool
    status: str
    job: Job | None


@dataclass(frozen=True, slots=True)
class BatchesPage:
    """Newest first. `more`: the number to go on from in the same direction; None: the end."""

    batches: list[StoredBatch]
    more: int | None


def batch_of(row: sqlite3.Row) -> StoredBatch:
    counts = {status: row[count] for status, count in zip(STATUSES, COUNTS, strict=True)}
    return StoredBatch(
        number=row["number"],
        batch_id=row["batch_id"],
        owner=row["owner"],
        name=row["name"],
        created_at=row["created_at"],
        completed_at=row["completed_at"],
        size=row["size"],
        reused=row["reused"],
        reused_rows=[(first, last) for first, last in json.loads(row["reused_rows"])],
        changes=row["changes"],
        counts=counts,
    )


def runs(rows: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending numbers as (first, last) of each run without a gap."""
    found: list[tuple[int, int]] = []
    for row in rows:
        if found and found[-1][1] == row - 1:
            found[-1] = (found[-1][0], row)
        else:
            found.append((row, row))
    return found
