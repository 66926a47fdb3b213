"""The tables of the job store. SQL only; those of batches are in `batch_tables.py`, those that lists find
jobs by in `finding.py`; how an older database
becomes one of this is in `upgrades.py`.

`number` counts the jobs: microseconds since 1970, made strictly increasing. It is the row id, so it needs no
index of its own, and every index ends with it.
"""

from __future__ import annotations

from serve_app.jobs.store.batch_tables import BATCH_INDEXES, BATCH_TABLES
from serve_app.jobs.store.finding import FINDING_TABLES
from serve_app.jobs.store.outbox_tables import OUTBOX_INDEXES, OUTBOX_TABLES
from serve_app.jobs.store.used import USED_TABLE

SCHEMA_VERSION = 10
LIVE = "status IN ('PENDING', 'STARTED', 'RETRY')"
COLUMNS = (
    "number", "job_id", "owner", "status", "created_at", "started_at", "completed_at", "deadline",
    "fence", "attempts", "alone", "ended", "kind", "pool", "model", "model_revision",
    "style_id", "seed", "n", "work", "client", "priority", "labels", "params", "images", "error",
    "troubles", "extra_files",
)  # fmt: skip
NAMED = ", ".join(COLUMNS)
VALUES = ", ".join(f":{name}" for name in COLUMNS)

# `ended` is the epoch in which the job ended. `labels` holds client and priority, too: the columns of that
# name spare the start of a registry from parsing the labels of every live job.
TABLES = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, status TEXT NOT NULL,
    created_at REAL NOT NULL, started_at REAL, completed_at REAL, deadline REAL,
    fence INTEGER NOT NULL, attempts INTEGER NOT NULL, alone INTEGER NOT NULL, ended INTEGER,
    kind TEXT NOT NULL, pool TEXT NOT NULL, model TEXT NOT NULL, model_revision TEXT NOT NULL,
    style_id TEXT NOT NULL, seed INTEGER NOT NULL, n INTEGER NOT NULL, work REAL NOT NULL,
    client TEXT NOT NULL, priority TEXT NOT NULL, labels TEXT NOT NULL,
    params TEXT NOT NULL, images TEXT NOT NULL, error TEXT, troubles TEXT NOT NULL DEFAULT '{{}}',
    extra_files INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS gone (
    job_id TEXT PRIMARY KEY, owner TEXT NOT NULL, why TEXT NOT NULL, epoch INTEGER NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS idempotency (
    owner TEXT NOT NULL, key TEXT NOT NULL, job_id TEXT NOT NULL, body_hash TEXT NOT NULL,
    created_at REAL NOT NULL, PRIMARY KEY (owner, key)
) WITHOUT ROWID;
{FINDING_TABLES}{BATCH_TABLES}{OUTBOX_TABLES}{USED_TABLE}
"""
INDEXES = f"""
CREATE INDEX IF NOT EXISTS jobs_live ON jobs (status) WHERE {LIVE};
CREATE INDEX IF NOT EXISTS jobs_finished ON jobs (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_littering ON jobs (ended) WHERE fence > 1 OR status != 'SUCCESS';
CREATE INDEX IF NOT EXISTS jobs_owner ON jobs (owner);
CREATE INDEX IF NOT EXISTS jobs_status ON jobs (owner, status);
CREATE INDEX IF NOT EXISTS jobs_style ON jobs (owner, style_id);
CREATE INDEX IF NOT EXISTS jobs_status_style ON jobs (owner, status, style_id);
CREATE INDEX IF NOT EXISTS jobs_model ON jobs (owner, model);
CREATE INDEX IF NOT EXISTS gone_epoch ON gone (epoch);
CREATE INDEX IF NOT EXISTS gone_at ON gone (at);
CREATE INDEX IF NOT EXISTS idempotency_age ON idempotency (created_at);
CREATE INDEX IF NOT EXISTS idempotency_job ON idempotency (job_id);
{BATCH_INDEXES}{OUTBOX_INDEXES}
"""
