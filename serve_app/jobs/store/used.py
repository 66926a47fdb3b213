"""What each owner uses: seconds of devices on the present day (UTC), and bytes of published files.

Knows its table; nothing of quotas. It is written in the transaction of whatever uses or frees something.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from serve_app.jobs.job import Job, bytes_of

DAY_S = 86_400
USED_TABLE = """
CREATE TABLE IF NOT EXISTS used (
    owner TEXT PRIMARY KEY, day INTEGER NOT NULL, device_seconds REAL NOT NULL, kept_bytes INTEGER NOT NULL
) WITHOUT ROWID;
"""
"""`day`: days since 1970, of `device_seconds`."""


class Used(NamedTuple):
    device_seconds: float
    kept_bytes: int


def day_of(at: float) -> int:
    return int(at // DAY_S)


def spend(db: sqlite3.Connection, owner: str, seconds: float, at: float) -> None:
    """Of a device, by a job that ended at this moment (unix seconds)."""
    db.execute(
        "INSERT INTO used VALUES (:owner, :day, :seconds, 0) ON CONFLICT (owner) DO UPDATE SET"
        " device_seconds = CASE WHEN day = :day THEN device_seconds ELSE 0 END + :seconds, day = :day",
        {"owner": owner, "day": day_of(at), "seconds": seconds},
    )


def keep(db: sqlite3.Connection, owner: str, added: int) -> None:
    """So many bytes more; or less."""
    db.execute(
        "INSERT INTO used VALUES (:owner, 0, 0, MAX(0, :added)) ON CONFLICT (owner) DO UPDATE SET"
        " kept_bytes = MAX(0, kept_bytes + :added)",
        {"owner": owner, "added": added},
    )


def free(db: sqlite3.Connection, jobs: Iterable[Job]) -> None:
    """The files of these jobs go."""
    freed = Counter[str]()
    for job in jobs:
        freed[job.owner] += bytes_of(job.images)
    for owner, size in freed.items():
        if size:
            keep(db, owner, -size)


def used_by(db: sqlite3.Connection, owner: str, now: float) -> Used:
    row = db.execute("SELECT * FROM used WHERE owner = ?", (owner,)).fetchone()
    if row is None:
        return Used(0.0, 0)
    today = row["day"] == day_of(now)
    return Used(row["device_seconds"] if today else 0.0, row["kept_bytes"])


def fill_used(db: sqlite3.Connection) -> None:
    """Of every job, in a store that did not count bytes."""
    kept = Counter[str]()
    for row in db.execute("SELECT owner, images FROM jobs WHERE images != '[]'"):
        kept[row["owner"]] += bytes_of(json.loads(row["images"]))
    for owner, size in kept.items():
        keep(db, owner, size)
