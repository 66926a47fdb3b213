"""The tables of the outbox: events for webhooks, and URLs that fail. SQL only.

`number` grows with each event. An endpoint has a row only while its newest call has failed.
"""

from __future__ import annotations

OUTBOX_TABLES = """
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, job_id TEXT,
    event TEXT NOT NULL, url TEXT NOT NULL, body TEXT NOT NULL, created_at REAL NOT NULL,
    state TEXT NOT NULL, reason TEXT, due REAL, done_at REAL, tries INTEGER NOT NULL DEFAULT 0,
    calls TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE IF NOT EXISTS endpoints (
    owner TEXT NOT NULL, url TEXT NOT NULL, failing_since REAL NOT NULL, disabled TEXT,
    PRIMARY KEY (owner, url)
) WITHOUT ROWID;
"""
OUTBOX_INDEXES = """
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (due) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS outbox_job ON outbox (job_id, number);
CREATE INDEX IF NOT EXISTS outbox_owner ON outbox (owner, number);
CREATE INDEX IF NOT EXISTS outbox_done ON outbox (done_at) WHERE done_at IS NOT NULL;
"""
