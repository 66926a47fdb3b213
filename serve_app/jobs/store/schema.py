"""The tables of the job store, and how a database of an older version becomes one of this.

SQL only. `line` numbers the jobs in the order they came: microseconds since 1970, made strictly growing.
As the row id it needs no index of its own, and every index ends with it.
"""

from __future__ import annotations

SCHEMA_VERSION = 2
LIVE = "status IN ('PENDING', 'STARTED', 'RETRY')"
COLUMNS = (
    "job_id, owner, status, line, created_at, started_at, completed_at, fence, attempts, alone,"
    " params, images, error, client, priority, style_id, tags, metadata, deadline, retry_of, work,"
    " ended"
)
MARKS = ", ".join("?" for _ in COLUMNS.split(","))

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    line INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, client TEXT NOT NULL,
    priority TEXT NOT NULL, status TEXT NOT NULL, style_id TEXT NOT NULL,
    created_at REAL NOT NULL, started_at REAL, completed_at REAL, deadline REAL,
    fence INTEGER NOT NULL, attempts INTEGER NOT NULL, alone INTEGER NOT NULL, work REAL NOT NULL,
    ended INTEGER, retry_of TEXT, tags TEXT NOT NULL, metadata TEXT NOT NULL,
    params TEXT NOT NULL, images TEXT NOT NULL, error TEXT
);
CREATE INDEX IF NOT EXISTS jobs_live ON jobs (status) WHERE {LIVE};
CREATE INDEX IF NOT EXISTS jobs_finished ON jobs (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_littering ON jobs (ended) WHERE fence > 1 OR status != 'SUCCESS';
CREATE INDEX IF NOT EXISTS jobs_owner ON jobs (owner);
CREATE INDEX IF NOT EXISTS jobs_status ON jobs (owner, status);
CREATE INDEX IF NOT EXISTS jobs_style ON jobs (owner, style_id);
CREATE INDEX IF NOT EXISTS jobs_status_style ON jobs (owner, status, style_id);
CREATE TABLE IF NOT EXISTS tags (
    owner TEXT NOT NULL, tag TEXT NOT NULL, line INTEGER NOT NULL, PRIMARY KEY (owner, tag, line)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gone (
    job_id TEXT PRIMARY KEY, owner TEXT NOT NULL, why TEXT NOT NULL, epoch INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS gone_epoch ON gone (epoch);
CREATE TABLE IF NOT EXISTS idempotency (
    owner TEXT NOT NULL, key TEXT NOT NULL, job_id TEXT NOT NULL, body_hash TEXT NOT NULL,
    created_at REAL NOT NULL, PRIMARY KEY (owner, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS idempotency_age ON idempotency (created_at);
CREATE INDEX IF NOT EXISTS idempotency_job ON idempotency (job_id);
"""

_FROM_1 = f"""
DROP INDEX live; DROP INDEX finished;
ALTER TABLE jobs RENAME TO jobs_1;
{SCHEMA}
INSERT INTO jobs ({COLUMNS}) SELECT job_id, owner, status,
    MAX(CAST(created_at * 1000000 AS INTEGER)) OVER (ORDER BY line, job_id ROWS UNBOUNDED PRECEDING)
        + ROW_NUMBER() OVER (ORDER BY line, job_id), created_at, started_at,
    completed_at, fence, attempts, alone, params, images, error, owner, 'normal',
    COALESCE(json_extract(params, '$.style_id'), 'none'), '[]', '{{}}', NULL, NULL, work_of(params),
    CASE WHEN {LIVE} THEN NULL ELSE (SELECT value FROM meta WHERE key = 'epoch') END FROM jobs_1;
DROP TABLE jobs_1;
"""
UPGRADES = {1: _FROM_1}
"""By the version that is found."""
