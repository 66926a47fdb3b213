"""SqliteStore: jobs as rows. Every query and every change of them is a method here.

Knows SQL. Does not know how writes are grouped and committed (`database`), nor who may change a job and when
(the registry).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serve_app.jobs.job import Job, bytes_of, paths_of, place_in_line, relabelled
from serve_app.jobs.store.batches import StoredBatches, forget_empty
from serve_app.jobs.store.database import Database
from serve_app.jobs.store.directory import Keeper
from serve_app.jobs.store.finding import index, relabel, unindex
from serve_app.jobs.store.outbox import Outbox, post
from serve_app.jobs.store.queries import UPLOADS_IN_USE, listing, matches
from serve_app.jobs.store.rows import from_row, to_row
from serve_app.jobs.store.schema import LIVE, NAMED, VALUES
from serve_app.jobs.store.used import Used, free, keep, spend, used_by
from serve_app.messages import JobChanges, JobFilter, Labels, Tombstone

SCANNED = 500
"""Most rows that are read for one page of a list. A rare combination of filters makes pages short, not
slow."""


@dataclass(frozen=True)
class Inserted:
    """The result of `insert`: which job stands for the order."""

    job_id: str
    existed: bool  # it was submitted before, with the same id or the same idempotency key
    same_body: bool


@dataclass(frozen=True, slots=True)
class LiveJob:
    """As much of a live job as the line needs. A million of these fit into memory."""

    job_id: str
    owner: str
    client: str
    priority: str
    number: int
    deadline: float | None
    work: float
    pool: str
    model: str

    @property
    def place(self) -> float:
        return place_in_line(self.number, self.priority)


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A page of a list, newest first. `more`: the number to go on from in the same direction; None: the
    end."""

    jobs: list[Job]
    more: int | None


class SqliteStore:
    """The job store in a directory or with another keeper, held by this process until `close` or its death.
    `epoch`: how often it has been opened so far. All methods raise sqlite3.Error if the disk fails, or what
    else keeps it."""

    def __init__(self, where: Path | Keeper, *, lock_timeout_s: float = 10.0) -> None:
        """Raises StoreHeld, naming the holder, if another process has it. `lock_timeout_s`: of a
        directory."""
        self._database = Database(where, lock_timeout_s=lock_timeout_s)
        self._read, self._write = self._database.read, self._database.write
        self.epoch = self._database.epoch
        self.outbox = Outbox(self._database)
        self.batches = StoredBatches(self._database, self.outbox)

    async def close(self) -> None:
        await self._database.close()

    # ---- writes: they run one after the other, in the order of the calls ----

    async def insert(
        self,
        job: Job,
        *,
        key: str | None,
        body_hash: str,
        key_expires_before: float,
        refused: Callable[[], str | None] = lambda: None,
    ) -> Inserted | str:
        """Store a new job, unless its owner used this idempotency `key` before, or its id is known: then the
        older job stands. A new one is stored only if `refused()` is None at the moment of the write, however
        long that had to wait; else what it says is returned. Keys older than `key_expires_before` (unix
        seconds) are forgotten."""
        hook = job.labels.get("webhook")

        def operation(db: sqlite3.Connection) -> Inserted | str:
            if key is not None:
                db.execute("DELETE FROM idempotency WHERE created_at < ?", (key_expires_before,))
                if (known := _of_key(db, job.owner, key, body_hash)) is not None:
                    return known
            if db.execute("SELECT 1 FROM jobs WHERE job_id = ?", (job.job_id,)).fetchone():
                return Inserted(job.job_id, existed=True, same_body=True)
            if db.execute("SELECT 1 FROM gone WHERE job_id = ?", (job.job_id,)).fetchone():
                return Inserted(job.job_id, existed=True, same_body=True)
            if (why := refused()) is not None:
                return why
            db.execute(f"INSERT INTO jobs ({NAMED}) VALUES ({VALUES})", to_row(job))
            index(db, job.number, job.owner, job.labels, job.params)
            if key is not None:
                db.execute(
                    "INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)",
                    (job.owner, key, job.job_id, body_hash, job.created_at),
                )
            if hook is not None:
                post(db, job, hook)
            return Inserted(job.job_id, existed=False, same_body=True)

        inserted = await self._write(operation)
        if hook is not None:
            self.outbox.posted()
        return inserted

    async def update(
        self, job: Job, *, expected_fence: int, device_seconds: float = 0.0
    ) -> Labels | None:
        """Write `job` over its row, but for its labels; those of the row are returned. None, and nothing is
        written, unless the row is live and has `expected_fence`: this is the one place that turns a
        superseded attempt away. `device_seconds`: what the job has used, if it ends now."""
        ended = self.epoch if job.status.terminal else None
        hook = job.labels.get("webhook")

        def operation(db: sqlite3.Connection) -> Labels | None:
            row = db.execute(
                "UPDATE jobs SET status = ?, started_at = ?, completed_at = ?, fence = ?,"
                " attempts = ?, alone = ?, images = ?, error = ?, troubles = ?, ended = ?"
                f" WHERE job_id = ? AND fence = ? AND {LIVE} RETURNING labels",
                (
                    job.status.value, job.started_at, job.completed_at, job.fence, job.attempts,
                    job.alone, json.dumps(job.images), json.dumps(job.error),
                    json.dumps(job.troubles), ended, job.job_id, expected_fence,
                ),
            ).fetchone()  # fmt: skip
            if row is None:
                return None
            if device_seconds and job.completed_at is not None:
                spend(db, job.owner, device_seconds, job.completed_at)
            if job.images:
                keep(db, job.owner, bytes_of(job.images))
            labels: Labels = json.loads(row["labels"])
            if hook is not None:
                post(db, job.evolve(labels=labels), hook)
            return labels

        # An end that was reached waits for a store that is away: nothing is drawn again for it.
        updated = await self._database.write(operation, patient=job.status.terminal)
        if hook is not None:
            self.outbox.posted()
        return updated

    async def relabel(self, job_id: str, changes: JobChanges) -> Job | None:
        """The job as its row is now, with other labels. None: there is no row."""

        def operation(db: sqlite3.Connection) -> Job | None:
            job = _one(db, job_id)
            if job is None:
                return None
            labels = relabelled(job.labels, changes)
            db.execute(
                "UPDATE jobs SET labels = ?, priority = ? WHERE number = ?",
                (json.dumps(labels), labels["priority"], job.number),
            )
            relabel(db, job.number, job.owner, job.labels, labels)
            return job.evolve(labels=labels)

        return await self._write(operation)

    async def bury(
        self, jobs: Sequence[Job], why: Literal["deleted", "expired"], at: float
    ) -> None:
        """Replace the rows of finished jobs by tombstones of this moment (unix seconds), so that their ids
        stay known."""

        def operation(db: sqlite3.Connection) -> None:
            unindex(db, [job.number for job in jobs])
            here: list[Job] = []
            for job in jobs:
                if db.execute("DELETE FROM jobs WHERE number = ?", (job.number,)).rowcount:
                    here.append(job)
                db.execute("DELETE FROM idempotency WHERE job_id = ?", (job.job_id,))
                db.execute(
                    "INSERT OR IGNORE INTO gone VALUES (?, ?, ?, ?, ?)",
                    (job.job_id, job.owner, why, self.epoch, at),
                )
            free(db, here)
            forget_empty(db, [job.number for job in jobs], why, self.epoch, at)

        await self._write(operation)

    async def forget_gone(self, before: float, limit: int) -> int:
        """Remove tombstones from before this moment (unix seconds), but none whose files the next sweep must
        still look for. Returns how many."""

        def operation(db: sqlite3.Connection) -> int:
            swept = "COALESCE((SELECT value FROM meta WHERE key = 'swept'), 0)"
            return db.execute(
                "DELETE FROM gone WHERE job_id IN"
                f" (SELECT job_id FROM gone WHERE at < ? AND epoch <= {swept} LIMIT ?)",
                (before, limit),
            ).rowcount

        return await self._write(operation)

    async def spend(self, owner: str, seconds: float, at: float) -> None:
        """Note what jobs of this owner have used of devices, that ended at this moment (unix seconds)."""
        await self._write(lambda db: spend(db, owner, seconds, at))

    async def swept(self) -> None:
        """Note that every file left over from before this start is removed."""

        def operation(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('swept', ?)", (self.epoch - 1,))

        await self._write(operation)

    # ---- reads: they see everything committed before the call ----

    async def of_key(self, owner: str, key: str, body_hash: str) -> Inserted | None:
        """What the owner ordered under this idempotency key before."""
        return await self._read(lambda db: _of_key(db, owner, key, body_hash))

    async def live(self) -> list[LiveJob]:
        """Every live job, in any order."""

        def operation(db: sqlite3.Connection) -> list[LiveJob]:
            rows = db.execute(
                "SELECT job_id, owner, client, priority, number, deadline, work, pool, model"
                f" FROM jobs WHERE {LIVE}"
            )
            return [LiveJob(*row) for row in rows]

        return await self._read(operation)

    async def started(self) -> list[Job]:
        """The jobs that are STARTED, in any order."""

        def operation(db: sqlite3.Connection) -> list[Job]:
            rows = db.execute(f"SELECT {NAMED} FROM jobs WHERE {LIVE} AND status = 'STARTED'")
            return [from_row(row) for row in rows]

        return await self._read(operation)

    async def get(self, job_id: str) -> Job | None:
        return await self._read(lambda db: _one(db, job_id))

    async def numbered(self, numbers: Sequence[int]) -> list[Job]:
        """The jobs of these numbers, in any order."""
        places = ", ".join("?" * len(numbers))

        def operation(db: sqlite3.Connection) -> list[Job]:
            rows = db.execute(f"SELECT {NAMED} FROM jobs WHERE number IN ({places})", numbers)
            return [from_row(row) for row in rows]

        return await self._read(operation)

    async def tombstone(self, job_id: str) -> Tombstone | None:
        def operation(db: sqlite3.Connection) -> Tombstone | None:
            row = db.execute("SELECT owner, why FROM gone WHERE job_id = ?", (job_id,)).fetchone()
            return Tombstone(job_id=job_id, owner=row["owner"], gone=row["why"]) if row else None

        return await self._read(operation)

    async def recent(self, limit: int) -> list[Job]:
        """The jobs that ended last, the latest one at the end."""

        def operation(db: sqlite3.Connection) -> list[Job]:
            rows = db.execute(
                f"SELECT {NAMED} FROM jobs WHERE completed_at IS NOT NULL"
                " ORDER BY completed_at DESC LIMIT ?",
                (limit,),
            ).fetchall()
            return [from_row(row) for row in reversed(rows)]

        return await self._read(operation)

    async def ended_before(self, moment: float, limit: int) -> list[Job]:
        """Jobs that ended before `moment` (unix seconds), in any order."""

        def operation(db: sqlite3.Connection) -> list[Job]:
            rows = db.execute(
                f"SELECT {NAMED} FROM jobs WHERE completed_at < ? LIMIT ?", (moment, limit)
            )
            return [from_row(row) for row in rows]

        return await self._read(operation)

    async def uploads_in_use(self) -> set[str]:
        """Ids of the uploads that jobs which have not ended are drawn with. Wherever in its params a job
        names one, it is called `upload_id`."""

        def operation(db: sqlite3.Connection) -> set[str]:
            return {row[0] for row in db.execute(UPLOADS_IN_USE)}

        return await self._read(operation)

    async def used_by(self, owner: str, now: float) -> Used:
        """What the owner has used on the day of `now` (unix seconds), and keeps."""
        return await self._read(lambda db: used_by(db, owner, now))

    async def oldest_waiting(self) -> float | None:
        """When the job that waits longest was ordered, unix seconds."""

        def operation(db: sqlite3.Connection) -> float | None:
            # Jobs are numbered by the microsecond, and the index of living jobs is sorted by it.
            found = db.execute(
                f"SELECT MIN(number) FROM jobs WHERE status IN ('PENDING', 'RETRY') AND {LIVE}"
            ).fetchone()
            return None if found[0] is None else found[0] / 1e6

        return await self._read(operation)

    def take_slowest_commit(self) -> float:
        """Seconds that the slowest commit took since the last call."""
        return self._database.take_slowest_commit()

    def take_sent(self) -> int:
        """Bytes that commits sent elsewhere since the last call."""
        return self._database.take_sent()

    async def littering(self) -> dict[str, set[str]]:
        """Jobs whose attempts may have left files since the last complete sweep: job id -> the published
        paths. A job that succeeded at its first attempt is not among them: it left none."""

        def operation(db: sqlite3.Connection) -> dict[str, set[str]]:
            swept = "COALESCE((SELECT value FROM meta WHERE key = 'swept'), 0)"
            rows = db.execute(
                f"SELECT job_id, images FROM jobs WHERE ended > {swept}"
                " AND (fence > 1 OR status != 'SUCCESS')"
            )
            found = {row["job_id"]: paths_of(json.loads(row["images"])) for row in rows}
            gone = db.execute(f"SELECT job_id FROM gone WHERE epoch > {swept}")
            return found | {row["job_id"]: set[str]() for row in gone}

        return await self._read(operation)

    async def page(
        self, owner: str, wanted: JobFilter, *, limit: int, before: int | None, after: int | None
    ) -> StoredPage:
        """The owner's jobs nearest below the number `before`, or nearest above `after`, or the newest
        ones."""
        sql, values = listing(owner, wanted, before=before, after=after)

        def operation(db: sqlite3.Connection) -> StoredPage:
            jobs: list[Job] = []
            last = None
            cursor = db.execute(sql, values)
            for scanned, row in enumerate(cursor, 1):
                if matches(row, wanted):
                    jobs.append(from_row(row))
                last = row["number"]
                if len(jobs) == limit or scanned == SCANNED:
                    break
            more = last if last is not None and cursor.fetchone() is not None else None
            return StoredPage(jobs if after is None else jobs[::-1], more)

        return await self._read(operation)

    async def last_number(self) -> int:
        """The highest number of a job or a batch that is not deleted; 0: there is none."""

        def operation(db: sqlite3.Connection) -> int:
            highest = "SELECT COALESCE(MAX(number), 0) FROM"
            return max(db.execute(f"{highest} {t}").fetchone()[0] for t in ("jobs", "batches"))

        return await self._read(operation)


def _of_key(db: sqlite3.Connection, owner: str, key: str, body_hash: str) -> Inserted | None:
    row = db.execute(
        "SELECT job_id, body_hash FROM idempotency WHERE owner = ? AND key = ?", (owner, key)
    ).fetchone()
    if row is None:
        return None
    return Inserted(row["job_id"], existed=True, same_body=row["body_hash"] == body_hash)


def _one(db: sqlite3.Connection, job_id: str) -> Job | None:
    row = db.execute(f"SELECT {NAMED} FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return None if row is None else from_row(row)
