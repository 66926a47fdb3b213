"""StoredBatches: batches and their rows. Every query and every change of them is a method here.

Knows SQL. A batch is written whole, with all its jobs, or not at all; its counts are kept by triggers
(`batch_tables`), or moved with a row; nothing here walks over rows to count them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from pydantic_core import from_json

from serve_app.jobs.job import Job
from serve_app.jobs.store.batch_tables import (
    BATCH_COLUMNS,
    COUNTS,
    LIVE_STATUSES,
    REUSED,
    ROW_COLUMNS,
    STATUSES,
)
from serve_app.jobs.store.cancelling import recount, revoke
from serve_app.jobs.store.database import Database
from serve_app.jobs.store.finding import index_new, unindex
from serve_app.jobs.store.outbox import Outbox, post
from serve_app.jobs.store.queries import bounds
from serve_app.jobs.store.rows import from_row, to_row
from serve_app.jobs.store.schema import COLUMNS, NAMED, VALUES
from serve_app.jobs.store.stored_batch import (
    BatchesPage,
    InsertedBatch,
    NewRow,
    StoredBatch,
    StoredRow,
    batch_of,
    runs,
)
from serve_app.messages import BatchFilter, JobError, Webhook

SCANNED = 500
"""Most batches that are read for one page of a list."""
LOST = ("FAILURE", "REVOKED")
"""Rows whose jobs ended without pictures: those that a retry orders again."""

_JOB = ", ".join(f"jobs.{name}" for name in COLUMNS)
_INSERT_BATCH = (
    f"INSERT INTO batches ({', '.join(BATCH_COLUMNS)}) VALUES"
    f" ({', '.join(f':{name}' for name in BATCH_COLUMNS)})"
)
_INSERT_ROW = (
    f"INSERT INTO batch_rows ({', '.join(ROW_COLUMNS)}) VALUES"
    f" ({', '.join('?' * len(ROW_COLUMNS))})"
)
_LAST_MADE = """
SELECT batch_rows.job, jobs.status FROM batch_rows
CROSS JOIN batches ON batches.number = batch_rows.batch
CROSS JOIN jobs ON jobs.number = batch_rows.job
WHERE batch_rows.key = ? AND batches.owner = ? AND batches.name = ?
    AND jobs.status NOT IN ('FAILURE', 'REVOKED')
ORDER BY batch_rows.batch DESC LIMIT 1
"""


class StoredBatches:
    """All methods raise sqlite3.Error if the disk fails."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._read, self._write, self._outbox = database.read, database.write, outbox
        self._epoch = database.epoch

    # ---- writes ----

    async def insert(
        self,
        batch_id: str,
        owner: str,
        name: str,
        rows: Sequence[NewRow],
        *,
        reuse: bool,
        key: str | None,
        body_hash: str,
        key_expires_before: float,
        hook: Webhook | None = None,
        refused: Callable[[Sequence[Job]], str | None] = lambda _: None,
    ) -> InsertedBatch | str:
        """Store a batch with all its jobs, unless its owner used this idempotency `key` before, or its id is
        known: then the older batch stands. With `reuse` and a name, a row whose key a batch of this owner
        and name has made, or makes, stands for that job, and its own is not stored. Nothing at all is stored
        if `refused(new jobs)` says why, at the moment of the write; that is returned then."""

        def operation(db: sqlite3.Connection) -> InsertedBatch | str:
            stands = _stands_for(db, batch_id, owner, key, body_hash, key_expires_before)
            if stands is not None:
                return stands
            made = _made(db, owner, name, rows) if reuse and name else {}
            fresh = [new for row, new in enumerate(rows, 1) if row not in made]
            if (why := refused([new.job for new in fresh])) is not None:
                return why
            number, created_at = rows[0].job.number, rows[0].job.created_at
            statuses = [
                made[row][1] if row in made else "PENDING" for row in range(1, len(rows) + 1)
            ]
            counts = {count: statuses.count(s) for count, s in zip(COUNTS, STATUSES, strict=True)}
            live = sum(status in LIVE_STATUSES for status in statuses)
            db.execute(
                _INSERT_BATCH,
                {
                    "number": number,
                    "batch_id": batch_id,
                    "owner": owner,
                    "name": name,
                    "created_at": created_at,
                    "completed_at": None if live else created_at,
                    "size": len(rows),
                    "reused": len(made),
                    "reused_rows": json.dumps(runs(made)),
                    "changes": 0,
                    **counts,
                },
            )
            _insert_jobs(db, fresh)
            jobs = (
                made[row][0] if row in made else new.job.number for row, new in enumerate(rows, 1)
            )
            entries = (
                (number, row, job, status, new.key, new.name, row in made)
                for row, (new, job, status) in enumerate(zip(rows, jobs, statuses, strict=True), 1)
            )
            db.executemany(_INSERT_ROW, entries)
            if hook is not None:  # after the rows: a trigger looks whether any of them lives
                db.execute(
                    "INSERT INTO batch_hooks VALUES (?, ?, ?, 1, ?)",
                    (number, hook["url"], hook["root"], json.dumps(hook["events"])),
                )
            if key is not None:
                db.execute(
                    "INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)",
                    (owner, key, batch_id, body_hash, created_at),
                )
            return InsertedBatch(batch_id, False, True, [new.job for new in fresh])

        inserted = await self._write(operation)
        self._outbox.posted()
        return inserted

    async def order_again(
        self,
        batch: int,
        rows: Sequence[tuple[int, str, NewRow]],
        refused: Callable[[Sequence[Job]], str | None] = lambda _: None,
    ) -> list[Job] | str:
        """Let new jobs stand for rows of the batch of this number: (row, id of the job that ended without
        pictures, what is ordered instead). A row that another job stands for by now is left alone. One whose
        job was left, and lives or has pictures, stands for that job again. Returns the new jobs, or what
        `refused(these)` says."""

        def operation(db: sqlite3.Connection) -> list[Job] | str:
            wanted: list[tuple[int, str, NewRow]] = []
            joined: list[tuple[int, str, str]] = []  # row, its status, that of its job
            for row, old, new in rows:
                lost = db.execute(
                    "SELECT batch_rows.status, jobs.status FROM batch_rows"
                    " JOIN jobs ON jobs.number = batch_rows.job"
                    " WHERE batch = ? AND row = ? AND jobs.job_id = ? AND batch_rows.status IN (?, ?)",
                    (batch, row, old, *LOST),
                ).fetchone()
                if lost is not None and lost[1] in LOST:
                    wanted.append((row, lost[0], new))
                elif lost is not None:
                    joined.append((row, lost[0], lost[1]))
            if (why := refused([new.job for _, _, new in wanted])) is not None:
                return why
            _insert_jobs(db, [new for _, _, new in wanted])
            db.executemany(
                "UPDATE batch_rows SET job = ?, status = 'PENDING', reused = 0"
                " WHERE batch = ? AND row = ?",
                [(new.job.number, batch, row) for row, _, new in wanted],
            )
            db.executemany(
                f"UPDATE batch_rows SET status = ?, reused = {REUSED} WHERE batch = ? AND row = ?",
                [(now, batch, row) for row, _, now in joined],
            )
            recount(db, batch, [(before, "PENDING") for _, before, _ in wanted])
            recount(db, batch, [(before, now) for _, before, now in joined])
            db.execute(
                "UPDATE batches SET completed_at = NULL"
                " WHERE number = ? AND pending + started + retry > 0",
                (batch,),
            )
            return [new.job for _, _, new in wanted]

        again = await self._write(operation)
        self._outbox.posted()
        return again

    async def revoke(self, batch: int, at: float, error: JobError) -> dict[str, int]:
        """Cancel the batch of this number: all its rows end together (`cancelling.revoke`). Returns the ids
        and numbers of the jobs that ended with them."""
        revoked = await self._write(
            lambda db: revoke(db, batch, at=at, error=error, epoch=self._epoch)
        )
        self._outbox.posted()
        return revoked

    async def take_back(self, batch_id: str, jobs: Sequence[Job], at: float) -> None:
        """Remove a batch that was inserted with these new jobs, as if it had not been. Its id stays known as
        one that is gone."""

        def operation(db: sqlite3.Connection) -> None:
            unindex(db, [job.number for job in jobs])
            for job in jobs:
                db.execute("DELETE FROM jobs WHERE number = ?", (job.number,))
                db.execute("DELETE FROM outbox WHERE job_id = ?", (job.job_id,))
            db.execute("DELETE FROM outbox WHERE job_id = ?", (batch_id,))
            _forget(db, batch_id, "deleted", self._epoch, at)

        await self._write(operation)

    # ---- reads ----

    async def get(self, batch_id: str) -> StoredBatch | None:
        def operation(db: sqlite3.Connection) -> StoredBatch | None:
            row = db.execute("SELECT * FROM batches WHERE batch_id = ?", (batch_id,)).fetchone()
            return None if row is None else batch_of(row)

        return await self._read(operation)

    async def of_key(self, owner: str, key: str, body_hash: str, not_before: float) -> str | None:
        """Id of the batch that the owner ordered with this body under this idempotency key. None: there is
        none, or it was before `not_before`."""

        def operation(db: sqlite3.Connection) -> str | None:
            row = db.execute(
                "SELECT job_id FROM idempotency WHERE owner = ? AND key = ? AND body_hash = ?"
                " AND created_at >= ? AND EXISTS (SELECT 1 FROM batches WHERE batch_id = job_id)",
                (owner, key, body_hash, not_before),
            ).fetchone()
            return None if row is None else row["job_id"]

        return await self._read(operation)

    async def plan(
        self, owner: str, name: str, keys: Sequence[bytes]
    ) -> tuple[list[tuple[int, int]], int]:
        """Of rows with these keys in a new batch: the runs that would be reused, and how many rows that
        is."""

        def operation(db: sqlite3.Connection) -> tuple[list[tuple[int, int]], int]:
            found = [
                row
                for row, key in enumerate(keys, 1)
                if db.execute(_LAST_MADE, (key, owner, name)).fetchone() is not None
            ]
            return runs(found), len(found)

        return await self._read(operation)

    async def page(
        self, owner: str, wanted: BatchFilter, *, limit: int, before: int | None, after: int | None
    ) -> BatchesPage:
        """The owner's batches nearest below the number `before`, or nearest above `after`, or the newest
        ones."""
        low, high = bounds(wanted, before=before, after=after)
        name = "AND name = ?" if "name" in wanted else ""
        way = "DESC" if after is None else "ASC"
        values = (owner, *([wanted["name"]] if "name" in wanted else []), low, high)

        def operation(db: sqlite3.Connection) -> BatchesPage:
            cursor = db.execute(
                f"SELECT * FROM batches WHERE owner = ? {name} AND number >= ? AND number < ?"
                f" ORDER BY number {way}",
                values,
            )
            found: list[StoredBatch] = []
            last = None
            for scanned, row in enumerate(cursor, 1):
                batch = batch_of(row)
                if not wanted.get("statuses") or batch.status in wanted.get("statuses", []):
                    found.append(batch)
                last = batch.number
                if len(found) == limit or scanned == SCANNED:
                    break
            more = last if last is not None and cursor.fetchone() is not None else None
            return BatchesPage(found if after is None else found[::-1], more)

        return await self._read(operation)

    async def rows(
        self, batch: int, after: int, limit: int, statuses: Sequence[str] = ()
    ) -> list[StoredRow]:
        """Rows after this one, in their order, with their jobs; with `statuses`, only rows of these."""
        chosen = statuses or [None]
        fields = (
            "batch_rows.row, batch_rows.name AS row_name, batch_rows.key, batch_rows.reused,"
            " batch_rows.status AS row_status"
        )
        one = (
            f"SELECT {fields}, {_JOB} FROM batch_rows LEFT JOIN jobs ON jobs.number = batch_rows.job"
            " WHERE batch_rows.batch = ? {} AND batch_rows.row > ? ORDER BY batch_rows.row LIMIT ?"
        )

        def operation(db: sqlite3.Connection) -> list[StoredRow]:
            found: list[StoredRow] = []
            for status in chosen:
                sql = one.format("" if status is None else "AND batch_rows.status = ?")
                given = () if status is None else (status,)
                for row in db.execute(sql, (batch, *given, after, limit)):
                    job = None if row["job_id"] is None else from_row(row)
                    reused = bool(row["reused"] & REUSED)
                    known = (row["row"], row["row_name"], row["key"], reused, row["row_status"])
                    found.append(StoredRow(*known, job))
            return sorted(found, key=lambda row: row.row)[:limit]

        return await self._read(operation)

    async def last_live(self, batch: int) -> list[Job]:
        """Of each status that is not final, the job of the batch's last row: one of them ends last."""

        def operation(db: sqlite3.Connection) -> list[Job]:
            sql = (
                f"SELECT {_JOB} FROM batch_rows JOIN jobs ON jobs.number = batch_rows.job"
                " WHERE batch_rows.batch = ? AND batch_rows.status = ?"
                " ORDER BY batch_rows.row DESC LIMIT 1"
            )
            found = (db.execute(sql, (batch, status)).fetchone() for status in LIVE_STATUSES)
            return [from_row(row) for row in found if row is not None]

        return await self._read(operation)


def forget_empty(
    db: sqlite3.Connection,
    jobs: Iterable[int],
    why: Literal["deleted", "expired"],
    epoch: int,
    at: float,
) -> None:
    """The jobs of these numbers were just deleted: a batch whose last job went with them is gone, too."""
    empty: set[str] = set()
    for job in jobs:
        found = db.execute(
            "SELECT batch_id FROM batch_rows JOIN batches ON batches.number = batch_rows.batch"
            " WHERE batch_rows.job = ? AND batches.size = batches.deleted",
            (job,),
        )
        empty.update(row["batch_id"] for row in found)
    for batch_id in empty:
        _forget(db, batch_id, why, epoch, at)


def _stands_for(
    db: sqlite3.Connection,
    batch_id: str,
    owner: str,
    key: str | None,
    body_hash: str,
    key_expires_before: float,
) -> InsertedBatch | None:
    if key is not None:
        db.execute("DELETE FROM idempotency WHERE created_at < ?", (key_expires_before,))
        row = db.execute(
            "SELECT job_id, body_hash FROM idempotency WHERE owner = ? AND key = ?", (owner, key)
        ).fetchone()
        if row is not None:
            return InsertedBatch(row["job_id"], True, row["body_hash"] == body_hash, [])
    for table, column in ("batches", "batch_id"), ("gone", "job_id"):
        if db.execute(f"SELECT 1 FROM {table} WHERE {column} = ?", (batch_id,)).fetchone():
            return InsertedBatch(batch_id, True, True, [])
    return None


def _made(
    db: sqlite3.Connection, owner: str, name: str, rows: Sequence[NewRow]
) -> dict[int, tuple[int, str]]:
    """Row -> number and status of the job that has made it, or makes it."""
    found: dict[int, tuple[int, str]] = {}
    named = "SELECT 1 FROM batches WHERE owner = ? AND name = ? LIMIT 1"
    if db.execute(named, (owner, name)).fetchone() is None:
        return found
    for row, new in enumerate(rows, 1):
        job = db.execute(_LAST_MADE, (new.key, owner, name)).fetchone()
        if job is not None:
            found[row] = (job["job"], job["status"])
    return found


def _insert_jobs(db: sqlite3.Connection, rows: Sequence[NewRow]) -> None:
    db.executemany(f"INSERT INTO jobs ({NAMED}) VALUES ({VALUES})", _as_rows(rows))
    index_new(db, ((new.job, from_json(new.params)) for new in rows))
    for new in rows:
        if (hook := new.job.labels.get("webhook")) is not None:
            post(db, new.job, hook)


def _as_rows(rows: Iterable[NewRow]) -> Iterator[dict[str, Any]]:
    labels, said = None, ""
    for new in rows:
        if new.job.labels is not labels:  # hot: rows of one file often share them
            labels = new.job.labels
            said = json.dumps(labels)
        yield to_row(new.job, new.params, said)


def _forget(
    db: sqlite3.Connection,
    batch_id: str,
    why: Literal["deleted", "expired"],
    epoch: int,
    at: float,
) -> None:
    db.execute(
        "INSERT OR IGNORE INTO gone SELECT batch_id, owner, ?, ?, ? FROM batches WHERE batch_id = ?",
        (why, epoch, at, batch_id),
    )
    db.execute(
        "DELETE FROM batch_rows WHERE batch = (SELECT number FROM batches WHERE batch_id = ?)",
        (batch_id,),
    )
    db.execute("DELETE FROM batches WHERE batch_id = ?", (batch_id,))
    db.execute("DELETE FROM idempotency WHERE job_id = ?", (batch_id,))
