"""The tables of batches, and the triggers that keep their counts. SQL only.

A row of a batch stands for one job, and a job may be a row of several batches: a later batch reuses what an
earlier one of its name has made. `number` of a batch is of the same count as those of jobs. `key` of a row: a
hash of its order. `status` of a row is its job's, or DELETED. Whatever changes a job changes the rows and
the counts of its batches in the same transaction, so a look at a batch walks over no rows. A batch that is
cancelled leaves a job that another batch stands for too: that row is REVOKED, whatever becomes of the job.
"""

from __future__ import annotations

STATUSES = ("PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED", "DELETED")
LIVE_STATUSES = STATUSES[:3]
COUNTS = tuple(status.lower() for status in STATUSES)
"""Columns of `batches`: how many of its rows are so."""

REUSED, LEFT = 1, 2
"""Bits of the column `reused`: another batch has ordered the job; the job was left."""

BATCH_COLUMNS = (
    "number", "batch_id", "owner", "name", "created_at", "completed_at", "size", "reused", "reused_rows",
    "changes", *COUNTS,
)  # fmt: skip
ROW_COLUMNS = ("batch", "row", "job", "status", "key", "name", "reused")

BATCH_TABLES = f"""
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY, batch_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
    created_at REAL NOT NULL, completed_at REAL, size INTEGER NOT NULL, reused INTEGER NOT NULL,
    reused_rows TEXT NOT NULL, changes INTEGER NOT NULL,
    {", ".join(f"{count} INTEGER NOT NULL" for count in COUNTS)}
);
CREATE TABLE IF NOT EXISTS batch_rows (
    batch INTEGER NOT NULL, row INTEGER NOT NULL, job INTEGER NOT NULL, status TEXT NOT NULL,
    key BLOB NOT NULL, name TEXT, reused INTEGER NOT NULL, PRIMARY KEY (batch, row)
) WITHOUT ROWID;
"""


def _live(status: str) -> str:
    return f"({status} IN ({', '.join(repr(name) for name in LIVE_STATUSES)}))"


def _moved(old: str, new: str) -> str:
    """Assignments: a row's status goes from one to the other."""
    return ", ".join(
        f"{count} = {count} - ({old} = '{status}') + ({new} = '{status}')"
        for count, status in zip(COUNTS, STATUSES, strict=True)
    )


_LEFT_OVER = f"pending + started + retry - {_live('OLD.status')} + {_live('NEW.status')}"
BATCH_INDEXES = f"""
CREATE INDEX IF NOT EXISTS batches_owner ON batches (owner, number);
CREATE INDEX IF NOT EXISTS batches_name ON batches (owner, name, number);
CREATE INDEX IF NOT EXISTS batch_rows_job ON batch_rows (job);
CREATE INDEX IF NOT EXISTS batch_rows_jobs ON batch_rows (batch, job);
CREATE INDEX IF NOT EXISTS batch_rows_status ON batch_rows (batch, status, row);
CREATE INDEX IF NOT EXISTS batch_rows_key ON batch_rows (key, batch);
DROP TRIGGER IF EXISTS batch_job_moved;
CREATE TRIGGER batch_job_moved AFTER UPDATE OF status ON jobs WHEN NEW.status != OLD.status
BEGIN
    UPDATE batches SET changes = changes + 1, {_moved("OLD.status", "NEW.status")},
        completed_at = CASE WHEN {_LEFT_OVER} = 0 THEN NEW.completed_at END
        WHERE number IN (SELECT batch FROM batch_rows WHERE job = NEW.number AND reused < {LEFT});
    UPDATE batch_rows SET status = NEW.status WHERE job = NEW.number AND reused < {LEFT};
END;
DROP TRIGGER IF EXISTS batch_job_deleted;
CREATE TRIGGER batch_job_deleted AFTER DELETE ON jobs
BEGIN
    UPDATE batches SET changes = changes + 1, {_moved("OLD.status", "'DELETED'")}
        WHERE number IN (SELECT batch FROM batch_rows WHERE job = OLD.number AND reused < {LEFT});
    UPDATE batches SET changes = changes + 1, revoked = revoked - 1, deleted = deleted + 1
        WHERE number IN (SELECT batch FROM batch_rows WHERE job = OLD.number AND reused >= {LEFT});
    UPDATE batch_rows SET status = 'DELETED' WHERE job = OLD.number;
END;
"""
"""Triggers are made anew at each start: an older database has older ones."""
