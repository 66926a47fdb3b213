"""How a database of an older version becomes one of today.

Knows the columns of the older versions and nothing else of the code that wrote them. `database` runs an
upgrade in one transaction, and makes the indexes afterwards: that is faster than filling them row by row.
"""

from __future__ import annotations

import json
import sqlite3

from serve_app.jobs.store.schema import LIVE, NAMED, TABLES

# Version 1: no clients, priorities, tags, deadlines; `line` was a count. Its jobs are numbered by their time,
# in the order of their line, even where the host's clock was put back.
_FROM_1 = f"""
DROP INDEX live; DROP INDEX finished;
ALTER TABLE jobs RENAME TO jobs_1;
{TABLES}
INSERT INTO jobs ({NAMED}) SELECT
    MAX(CAST(created_at * 1000000 AS INTEGER)) OVER (ORDER BY line, job_id ROWS UNBOUNDED PRECEDING)
        + ROW_NUMBER() OVER (ORDER BY line, job_id),
    job_id, owner, status, created_at, started_at, completed_at, NULL, fence, attempts, alone,
    CASE WHEN {LIVE} THEN NULL ELSE (SELECT value FROM meta WHERE key = 'epoch') END,
    'generate', 'default', json_extract(params, '$.model'),
    json_extract(params, '$.model_revision'), COALESCE(json_extract(params, '$.style_id'), 'none'),
    json_extract(params, '$.seed'), COALESCE(json_extract(params, '$.n'), 1), work_of(params),
    owner, 'normal', labels_of(owner, 'normal', '[]', '{{}}', NULL), params, images, error, '{{}}', 0
FROM jobs_1;
DROP TABLE jobs_1;
"""

# Version 2: `line` was the number; labels were columns; the summary was in `params` only.
_FROM_2 = f"""
DROP INDEX jobs_live; DROP INDEX jobs_finished; DROP INDEX jobs_littering; DROP INDEX jobs_owner;
DROP INDEX jobs_status; DROP INDEX jobs_style; DROP INDEX jobs_status_style;
ALTER TABLE jobs RENAME TO jobs_2;
ALTER TABLE tags RENAME COLUMN line TO number;
ALTER TABLE gone RENAME TO gone_2;
DROP INDEX gone_epoch;
{TABLES}
INSERT INTO jobs ({NAMED}) SELECT
    line, job_id, owner, status, created_at, started_at, completed_at, deadline, fence, attempts, alone,
    ended, 'generate', 'default', json_extract(params, '$.model'),
    json_extract(params, '$.model_revision'), style_id,
    json_extract(params, '$.seed'), COALESCE(json_extract(params, '$.n'), 1), work,
    client, priority, labels_of(client, priority, tags, metadata, retry_of), params, images, error,
    '{{}}', 0
FROM jobs_2 ORDER BY line;
DROP TABLE jobs_2;
INSERT INTO gone SELECT job_id, owner, why, epoch, CAST(strftime('%s', 'now') AS REAL) FROM gone_2;
DROP TABLE gone_2;
"""

# Version 3: how often a job met which trouble was in memory only, and every attempt wrote one file for each
# image.
_FROM_3 = """
ALTER TABLE jobs ADD COLUMN troubles TEXT NOT NULL DEFAULT '{}';
ALTER TABLE jobs ADD COLUMN extra_files INTEGER NOT NULL DEFAULT 0;
"""

# Versions 4 to 6: tables were added. Version 7: a batch called its webhook at its end only.
_FROM_7 = """
ALTER TABLE batch_hooks ADD COLUMN events TEXT NOT NULL DEFAULT '["completed"]';
"""

UPGRADES = {1: _FROM_1, 2: _FROM_2, 3: _FROM_3, 7: _FROM_7}
"""SQL by the version that is found. It calls the functions below."""


def add_functions(db: sqlite3.Connection) -> None:
    """Let SQL on this connection call what the upgrades need."""
    db.create_function("work_of", 1, work_of, deterministic=True)
    db.create_function("labels_of", 5, labels_of, deterministic=True)


def work_of(params: str) -> float:
    """Megapixel steps of stored params, as version 1 counted them."""
    order = json.loads(params)
    rows = 2 if order["guidance_scale"] > 1 else 1
    return order.get("n", 1) * order["steps"] * rows * order["width"] * order["height"] / 1e6


def labels_of(client: str, priority: str, tags: str, metadata: str, retry_of: str | None) -> str:
    """The column `labels`. `tags` and `metadata` are JSON. Not SQLite's `json`: what clients wrote is read by
    the parser that wrote it."""
    return json.dumps(
        {
            "client": client,
            "priority": priority,
            "tags": json.loads(tags),
            "metadata": json.loads(metadata),
            "retry_of": retry_of,
        }
    )
