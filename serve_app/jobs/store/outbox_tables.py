"""The tables of the outbox: events for webhooks, and URLs that fail; and the triggers that write the events
of a batch. SQL only.

`number` grows with each event. `job_id`: of the job, or of the batch that an event is about; a batch's has an
`id` of four parts. An endpoint has a row only while its newest call has failed. `batch_hooks` has a row for
each batch that calls somebody: the triggers see what happens to it, in the transaction in which it does,
whichever job was the first or the last. `events`: a JSON list. `open`: the batch has not ended.
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
    batch INTEGER PRIMARY KEY, url TEXT NOT NULL, root TEXT NOT NULL, open INTEGER NOT NULL,
    events TEXT NOT NULL DEFAULT '["completed"]'
);
"""


_NOW = "(julianday('now') - 2440587.5) * 86400.0"
_BEGUN = "{0}.started + {0}.retry + {0}.success + {0}.failure > 0"
_STATUS = f"""CASE
    WHEN b.pending + b.started + b.retry = 0 THEN
        CASE WHEN b.failure > 0 THEN 'FAILURE' WHEN b.revoked > 0 THEN 'REVOKED' ELSE 'SUCCESS' END
    WHEN {_BEGUN.format("b")} THEN 'STARTED' ELSE 'PENDING' END"""


def _posted(batch: str, event: str, turn: str, at: str, when: str) -> str:
    """The event of the batch of this number, if its webhook is called for it and `when` is true. `turn`: what
    tells the event from another one of its name. `at`: when it happened, unix seconds."""
    counts = ", ".join(f"'{count.upper()}', b.{count}" for count in COUNTS)
    own = "h.root || '/v1/batches/' || b.batch_id"
    return f"""
    INSERT OR IGNORE INTO outbox
            (id, owner, job_id, event, url, body, created_at, state, reason, due, done_at)
        SELECT 'msg_' || b.batch_id || '_' || {turn} || '_{event}', b.owner, b.batch_id, '{event}', h.url,
            json_object(
                'type', 'batch.{event}',
                'timestamp', strftime('%Y-%m-%dT%H:%M:%fZ', {at}, 'unixepoch'),
                'data', json_object(
                    'batch_id', b.batch_id, 'name', b.name, 'size', b.size, 'reused', b.reused,
                    'status', {_STATUS},
                    'counts', json_object({counts}),
                    'urls', json_object('self', {own}, 'archive', {own} || '/archive'))),
            {at}, CASE WHEN e.disabled IS NULL THEN 'waiting' ELSE 'dropped' END, e.disabled,
            CASE WHEN e.disabled IS NULL THEN {at} END, CASE WHEN e.disabled IS NOT NULL THEN {at} END
        FROM batch_hooks AS h JOIN batches AS b ON b.number = h.batch
            LEFT JOIN endpoints AS e ON e.owner = b.owner AND e.url = h.url
        WHERE h.batch = {batch} AND instr(h.events, '"{event}"') > 0 AND {when};"""


def _begun(batch: str, when: str) -> str:
    """Once, however often it is ordered again. The clock here may be ahead of that of the job's end."""
    return _posted(batch, "started", "0", f"MIN({_NOW}, COALESCE(b.completed_at, {_NOW}))", when)


def _ended(batch: str, when: str) -> str:
    """Ended again after a retry, it is another event: `changes` has grown."""
    told = _posted(batch, "completed", "b.changes", "b.completed_at", when)
    return f"""{told}
    UPDATE batch_hooks SET open = (SELECT completed_at IS NULL FROM batches WHERE number = {batch})
        WHERE batch = {batch};"""


OUTBOX_INDEXES = f"""
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (due) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS outbox_url ON outbox (owner, url, due) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS outbox_job ON outbox (job_id, number);
CREATE INDEX IF NOT EXISTS outbox_owner ON outbox (owner, number);
CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (created_at) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS outbox_done ON outbox (done_at) WHERE done_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS batch_hooks_open ON batch_hooks (open) WHERE open = 1;
DROP TRIGGER IF EXISTS batch_hooked;
CREATE TRIGGER batch_hooked AFTER INSERT ON batch_hooks
BEGIN{_posted("NEW.batch", "queued", "0", "b.created_at", "TRUE")}
    {_begun("NEW.batch", _BEGUN.format("b"))}
    {_ended("NEW.batch", "b.completed_at IS NOT NULL")}
END;
DROP TRIGGER IF EXISTS batch_ended;
CREATE TRIGGER batch_ended AFTER UPDATE ON batches
    WHEN ((NEW.completed_at IS NULL) != (OLD.completed_at IS NULL)
        OR ({_BEGUN.format("NEW")}) AND NOT ({_BEGUN.format("OLD")}))
    AND EXISTS (SELECT 1 FROM batch_hooks WHERE batch = NEW.number)
BEGIN{_begun("NEW.number", _BEGUN.format("NEW"))}
    {_ended("NEW.number", "NEW.completed_at IS NOT NULL AND OLD.completed_at IS NULL")}
END;
CREATE TRIGGER IF NOT EXISTS batch_forgotten AFTER DELETE ON batches
BEGIN
    DELETE FROM batch_hooks WHERE batch = OLD.number;
END;
"""
