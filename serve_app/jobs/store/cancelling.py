"""Cancelling: a batch ends with all its rows, in one transaction.

Knows SQL; stops no work, and does not know who may cancel.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable

from serve_app.jobs.store.batch_tables import LEFT
from serve_app.jobs.store.outbox import post
from serve_app.jobs.store.rows import from_row
from serve_app.jobs.store.schema import LIVE, NAMED
from serve_app.messages import JobError

_WORK_FIRST = ("STARTED", "RETRY", "PENDING")
# Whether a batch that was not cancelled stands for the job too.
_LIVE_ROWS = f"""
SELECT own.row, own.status, own.job, jobs.job_id, jobs.labels, EXISTS (
    SELECT 1 FROM batch_rows AS other
    WHERE other.job = own.job AND other.batch != own.batch AND other.reused < {LEFT}
) AS shared
FROM batch_rows AS own JOIN jobs ON jobs.number = own.job
WHERE own.batch = ? AND own.status = ? ORDER BY own.row
"""


def revoke(
    db: sqlite3.Connection, batch: int, *, at: float, error: JobError, epoch: int
) -> dict[str, int]:
    """Every job that lives and that only the batch of this number waits for is revoked now (`at`, unix
    seconds). One that another batch stands for too is left: only the row ends. Returns the ids and numbers of
    the jobs that were revoked, those that are drawn first."""
    live: list[sqlite3.Row] = []
    for status in _WORK_FIRST:
        live += db.execute(_LIVE_ROWS, (batch, status))
    left = [row for row in live if row["shared"]]
    db.executemany(
        f"UPDATE batch_rows SET status = 'REVOKED', reused = reused | {LEFT}"
        " WHERE batch = ? AND row = ?",
        [(batch, row["row"]) for row in left],
    )
    recount(db, batch, [(row["status"], "REVOKED") for row in left])
    ends = [row for row in live if not row["shared"]]
    said = json.dumps(error)
    # Triggers carry each end into the rows and the counts of the batch.
    db.executemany(
        "UPDATE jobs SET status = 'REVOKED', completed_at = ?, alone = 0, error = ?, ended = ?"
        f" WHERE number = ? AND {LIVE}",
        [(at, said, epoch, row["job"]) for row in ends],
    )
    _tell(db, [row["job"] for row in ends if '"webhook"' in row["labels"]])
    db.execute(
        "UPDATE batches SET completed_at = ? WHERE number = ? AND completed_at IS NULL"
        " AND pending + started + retry = 0",
        (at, batch),
    )
    return {row["job_id"]: row["job"] for row in ends}


def recount(db: sqlite3.Connection, batch: int, moved: Iterable[tuple[str, str]]) -> None:
    """Rows of the batch went from one status each to another one."""
    for (before, now), rows in Counter(moved).items():
        db.execute(
            f"UPDATE batches SET {before.lower()} = {before.lower()} - ?,"
            f" {now.lower()} = {now.lower()} + ?, changes = changes + ? WHERE number = ?",
            (rows, rows, rows, batch),
        )


def _tell(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    for number in numbers:
        row = db.execute(f"SELECT {NAMED} FROM jobs WHERE number = ?", (number,)).fetchone()
        job = from_row(row)
        if (hook := job.labels.get("webhook")) is not None:  # the word may stand in the metadata
            post(db, job, hook)
