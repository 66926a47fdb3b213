"""The tables of the outbox: events for webhooks, and URLs that fail; and the triggers that write the event of
a batch. SQL only.

`number` grows with each event. An endpoint has a row only while its newest call has failed. `batch_hooks` has
a row for each batch that calls somebody when all its jobs have ended: the triggers see that happen, in the
transaction in which it does, whichever job was the last. `open`: it has not ended.
"""

from __future__ import annotations

from serve_app.jobs.store.batch_tables import COUNTS

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
CREATE TABLE IF NOT EXISTS batch_hooks (
    batch INTEGER PRIMARY KEY, url TEXT NOT NULL, root TEXT NOT NULL, open INTEGER NOT NULL
);
"""


def _posted(number: str) -> str:
    """The event of the batch of this number, which has ended. Ended again after a retry, it is another one:
    `changes` has grown."""
    counts = ", ".join(f"'{count.upper()}', b.{count}" for count in COUNTS)
    own = "h.root || '/v1/batches/' || b.batch_id"
    return f"""
    INSERT OR IGNORE INTO outbox (id, owner, event, url, body, created_at, state, reason, due, done_at)
        SELECT 'msg_' || b.batch_id || '_' || b.changes || '_completed', b.owner, 'completed', h.url,
            json_object(
                'type', 'batch.completed',
                'timestamp', strftime('%Y-%m-%dT%H:%M:%fZ', b.completed_at, 'unixepoch'),
                'data', json_object(
                    'batch_id', b.batch_id, 'name', b.name, 'size', b.size, 'reused', b.reused,
                    'status', CASE WHEN b.failure > 0 THEN 'FAILURE' WHEN b.revoked > 0 THEN 'REVOKED'
                        ELSE 'SUCCESS' END,
                    'counts', json_object({counts}),
                    'urls', json_object('self', {own}, 'archive', {own} || '/archive'))),
            b.completed_at, CASE WHEN e.disabled IS NULL THEN 'waiting' ELSE 'dropped' END, e.disabled,
            CASE WHEN e.disabled IS NULL THEN b.completed_at END,
            CASE WHEN e.disabled IS NOT NULL THEN b.completed_at END
        FROM batch_hooks AS h JOIN batches AS b ON b.number = h.batch
            LEFT JOIN endpoints AS e ON e.owner = b.owner AND e.url = h.url
        WHERE h.batch = {number} AND b.completed_at IS NOT NULL;
    UPDATE batch_hooks SET open = (SELECT completed_at IS NULL FROM batches WHERE number = {number})
        WHERE batch = {number};"""


OUTBOX_INDEXES = f"""
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (due) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS outbox_url ON outbox (owner, url, due) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS outbox_job ON outbox (job_id, number);
CREATE INDEX IF NOT EXISTS outbox_owner ON outbox (owner, number);
CREATE INDEX IF NOT EXISTS outbox_done ON outbox (done_at) WHERE done_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS batch_hooks_open ON batch_hooks (open) WHERE open = 1;
CREATE TRIGGER IF NOT EXISTS batch_hooked AFTER INSERT ON batch_hooks
BEGIN{_posted("NEW.batch")}
END;
CREATE TRIGGER IF NOT EXISTS batch_ended AFTER UPDATE OF completed_at ON batches
    WHEN (NEW.completed_at IS NULL) != (OLD.completed_at IS NULL)
    AND EXISTS (SELECT 1 FROM batch_hooks WHERE batch = NEW.number)
BEGIN{_posted("NEW.number")}
END;
CREATE TRIGGER IF NOT EXISTS batch_forgotten AFTER DELETE ON batches
BEGIN
    DELETE FROM batch_hooks WHERE batch = OLD.number;
END;
"""
