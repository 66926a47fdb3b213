"""The tables of the job store, and how a database of an older version becomes one of this.

SQL only. `number` numbers the jobs in the order they came: microseconds since 1970, made strictly growing.
As the row id it needs no index of its own, and every index ends with it.
"""

from __future__ import annotations

SCHEMA_VERSION = 3
LIVE = "status IN ('PENDING', 'STARTED', 'RETRY')"
COLUMNS = (
    "number", "job_id", "owner", "status", "created_at", "started_at", "completed_at", "deadline",
    "fence", "attempts", "alone", "ended", "kind", "pool", "model", "style_id", "seed", "n", "work",
    "client", "priority", "labels", "params", "images", "error",
)  # fmt: skip
NAMED = ", ".join(COLUMNS)
VALUES = ", ".join(f":{name}" for name in COLUMNS)

# `labels` holds client and priority too; those columns are what the line reads of 100,000 jobs at start.
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, status TEXT NOT NULL,
    created_at REAL NOT NULL, started_at REAL, completed_at REAL, deadline REAL,
    fence INTEGER NOT NULL, attempts INTEGER NOT NULL, alone INTEGER NOT NULL, ended INTEGER,
    kind TEXT NOT NULL, pool TEXT NOT NULL, model TEXT NOT NULL, style_id TEXT NOT NULL,
    seed INTEGER NOT NULL, n INTEGER NOT NULL, work REAL NOT NULL,
    client TEXT NOT NULL, priority TEXT NOT NULL, labels TEXT NOT NULL,
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
    owner TEXT NOT NULL, tag TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (owner, tag, number)
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

_SUMMARY = (
    "'generate', 'default', COALESCE(json_extract(params, '$.model'), ''),"
    " COALESCE(json_extract(params, '$.style_id'), 'none'),"
    " json_extract(params, '$.seed'), COALESCE(json_extract(params, '$.n'), 1), work_of(params)"
)
"""kind, pool, model, style_id, seed, n, work."""

_FROM_1 = f"""
DROP INDEX live; DROP INDEX finished;
ALTER TABLE jobs RENAME TO jobs_1;
{SCHEMA}
INSERT INTO jobs ({NAMED}) SELECT
    MAX(CAST(created_at * 1000000 AS INTEGER)) OVER (ORDER BY line, job_id ROWS UNBOUNDED PRECEDING)
        + ROW_NUMBER() OVER (ORDER BY line, job_id),
    job_id, owner, status, created_at, started_at, completed_at, NULL, fence, attempts, alone,
    CASE WHEN {LIVE} THEN NULL ELSE (SELECT value FROM meta WHERE key = 'epoch') END,
    {_SUMMARY}, owner, 'normal',
    json_object('client', owner, 'priority', 'normal', 'tags', json('[]'), 'metadata', json('{{}}'),
                'retry_of', NULL),
    params, images, error FROM jobs_1;
DROP TABLE jobs_1;
"""

_FROM_2 = f"""
DROP INDEX jobs_live; DROP INDEX jobs_finished; DROP INDEX jobs_littering; DROP INDEX jobs_owner;
DROP INDEX jobs_status; DROP INDEX jobs_style; DROP INDEX jobs_status_style;
ALTER TABLE jobs RENAME TO jobs_2;
ALTER TABLE tags RENAME COLUMN line TO number;
{SCHEMA}
INSERT INTO jobs ({NAMED}) SELECT
    line, job_id, owner, status, created_at, started_at, completed_at, deadline, fence, attempts, alone,
    ended, {_SUMMARY}, client, priority,
    json_object('client', client, 'priority', priority, 'tags', json(tags), 'metadata', json(metadata),
                'retry_of', retry_of),
    params, images, error FROM jobs_2 ORDER BY line;
DROP TABLE jobs_2;
"""
UPGRADES = {1: _FROM_1, 2: _FROM_2}
"""By the version that is found."""
