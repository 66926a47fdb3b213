"""SqliteStore: jobs on disk. One thread owns the connection; waiting writes share one fsync.

Knows rows and transactions; what a state means, and who may change it, is the registry's.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from serve_app.errors import StoreHeld
from serve_app.jobs.job import Job, Status

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    job_id TEXT PRIMARY KEY, owner TEXT NOT NULL, status TEXT NOT NULL, line INTEGER NOT NULL,
    created_at REAL NOT NULL, started_at REAL, completed_at REAL,
    fence INTEGER NOT NULL, attempts INTEGER NOT NULL, alone INTEGER NOT NULL,
    params TEXT NOT NULL, images TEXT NOT NULL, error TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS live ON jobs (line) WHERE status IN ('PENDING', 'STARTED', 'RETRY');
CREATE INDEX IF NOT EXISTS finished ON jobs (completed_at) WHERE completed_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS idempotency (
    owner TEXT NOT NULL, key TEXT NOT NULL, job_id TEXT NOT NULL, body_hash TEXT NOT NULL,
    created_at REAL NOT NULL, PRIMARY KEY (owner, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS idempotency_age ON idempotency (created_at);
"""
SCHEMA_VERSION = 1
COLUMNS = (
    "job_id, owner, status, line, created_at, started_at, completed_at, fence, attempts, alone,"
    " params, images, error"
)
LIVE = "status IN ('PENDING', 'STARTED', 'RETRY')"


@dataclass(frozen=True)
class Inserted:
    """Outcome of `insert`: the id that stands for the order, and whether it was there before."""

    job_id: str
    existed: bool
    same_body: bool


class SqliteStore:
    """The jobs below `directory`, locked for this process until `close` or its death."""

    def __init__(self, directory: Path, *, lock_timeout_s: float = 10.0) -> None:
        """Raises StoreHeld, naming the holder, if another process has the directory."""
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(directory / "registry.lock", lock_timeout_s)
        self._queue: queue.SimpleQueue[tuple[Operation, Future[Any]] | None] = queue.SimpleQueue()
        self._ready: Future[int] = Future()
        self._path = directory / "jobs.db"
        self._thread = threading.Thread(target=self._serve, name="store", daemon=True)
        self._thread.start()
        self.epoch = self._ready.result()

    # ---- reads and writes: all run on the store's thread, in the order they were asked ----

    async def insert(
        self,
        job: Job,
        *,
        key: str | None,
        body_hash: str,
        key_expires_before: float,
        only_replay: bool = False,
    ) -> Inserted | None:
        """Store a new job; with a `key` that its owner used before, the older job stands. With
        `only_replay` nothing new is stored, and None is the answer."""

        def operation(db: sqlite3.Connection) -> Inserted | None:
            if key is not None:
                db.execute("DELETE FROM idempotency WHERE created_at < ?", (key_expires_before,))
                row = db.execute(
                    "SELECT job_id, body_hash FROM idempotency WHERE owner = ? AND key = ?",
                    (job.owner, key),
                ).fetchone()
                if row is not None:
                    return Inserted(row[0], existed=True, same_body=row[1] == body_hash)
            if db.execute("SELECT 1 FROM jobs WHERE job_id = ?", (job.job_id,)).fetchone():
                return Inserted(job.job_id, existed=True, same_body=True)
            if only_replay:
                return None
            db.execute(f"INSERT INTO jobs ({COLUMNS}) VALUES ({_marks(13)})", _to_row(job))
            if key is not None:
                db.execute(
                    "INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)",
                    (job.owner, key, job.job_id, body_hash, job.created_at),
                )
            return Inserted(job.job_id, existed=False, same_body=True)

        return await self._run(operation)

    async def update(self, job: Job, *, expected_fence: int) -> bool:
        """Write `job` over its row. False, and nothing written, unless the row is live and at
        `expected_fence`: this is the one place where a superseded attempt is turned away."""

        def operation(db: sqlite3.Connection) -> bool:
            cursor = db.execute(
                "UPDATE jobs SET status = ?, started_at = ?, completed_at = ?, fence = ?,"
                " attempts = ?, alone = ?, images = ?, error = ?"
                f" WHERE job_id = ? AND fence = ? AND {LIVE}",
                (
                    job.status.value, job.started_at, job.completed_at, job.fence, job.attempts,
                    job.alone, json.dumps(job.images), json.dumps(job.error),
                    job.job_id, expected_fence,
                ),
            )  # fmt: skip
            return cursor.rowcount == 1

        return await self._run(operation)

    async def get(self, job_id: str) -> Job | None:
        return await self._run(lambda db: _one(db, job_id))

    async def get_many(self, job_ids: Iterable[str]) -> dict[str, Job]:
        """Those of `job_ids` that exist."""
        ids = list(job_ids)

        def operation(db: sqlite3.Connection) -> dict[str, Job]:
            found = (_one(db, job_id) for job_id in ids)
            return {job.job_id: job for job in found if job is not None}

        return await self._run(operation)

    async def live(self) -> list[Job]:
        """Every job that has not ended, first in line first."""

        def operation(db: sqlite3.Connection) -> list[Job]:
            rows = db.execute(f"SELECT {COLUMNS} FROM jobs WHERE {LIVE} ORDER BY line")
            return [_from_row(row) for row in rows]

        return await self._run(operation)

    async def recent(self, limit: int) -> list[Job]:
        """The jobs that ended last, oldest of them first."""

        def operation(db: sqlite3.Connection) -> list[Job]:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE completed_at IS NOT NULL"
                " ORDER BY completed_at DESC LIMIT ?",
                (limit,),
            ).fetchall()
            return [_from_row(row) for row in reversed(rows)]

        return await self._run(operation)

    async def last_in_line(self) -> int:
        return await self._run(
            lambda db: db.execute("SELECT COALESCE(MAX(line), 0) FROM jobs").fetchone()[0]
        )

    async def close(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
        self._lock.close()

    # ---- the store's thread ----

    async def _run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        future: Future[T] = Future()
        self._queue.put((operation, future))
        # Shielded: a caller that is cancelled must not take back a write that others see.
        return await asyncio.shield(asyncio.wrap_future(future))

    def _serve(self) -> None:
        try:
            db, epoch = _open(self._path)
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(epoch)
        with contextlib.closing(db):
            while (first := self._queue.get()) is not None:
                group = [first]
                stop = False
                with contextlib.suppress(queue.Empty):
                    while len(group) < 256:
                        item = self._queue.get_nowait()
                        if item is None:
                            stop = True
                            break
                        group.append(item)
                _commit(db, group)
                if stop:
                    return


def _commit(db: sqlite3.Connection, group: list[tuple[Operation, Future[Any]]]) -> None:
    """Run a group in one transaction. An operation that fails is undone alone; a commit that fails
    (disk full) fails all of them."""
    outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
    try:
        db.execute("BEGIN IMMEDIATE")
        for operation, future in group:
            db.execute("SAVEPOINT one")
            try:
                outcomes.append((future, operation(db), None))
            except Exception as error:
                db.execute("ROLLBACK TO one")
                outcomes.append((future, None, error))
            db.execute("RELEASE one")
        db.execute("COMMIT")
    except sqlite3.Error as error:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        outcomes = [(future, None, error) for _, future in group]
    for future, result, error in outcomes:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _open(path: Path) -> tuple[sqlite3.Connection, int]:
    """The database, and the number of this life of the registry, committed before anything else."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # a 202 must survive the power cut that follows it
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found > SCHEMA_VERSION:
        db.close()
        raise StoreHeld(f"the job store has schema {found}, this code knows {SCHEMA_VERSION}")
    db.executescript(SCHEMA)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    epoch = db.execute(
        "INSERT INTO meta VALUES ('epoch', 1)"
        " ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value"
    ).fetchone()[0]
    return db, epoch


def _lock(path: Path, timeout_s: float) -> IO[str]:
    """An exclusive lock that the kernel releases when this process dies, however it dies."""
    file = path.open("a+")
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # flock has no timed wait; a killed predecessor is gone within milliseconds.
            if time.monotonic() > give_up:
                file.seek(0)
                holder = file.read().strip() or "an unknown process"
                file.close()
                raise StoreHeld(f"the job store is held by {holder}") from None
            time.sleep(0.05)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
    file.flush()
    return file


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _to_row(job: Job) -> tuple[Any, ...]:
    return (
        job.job_id, job.owner, job.status.value, job.order, job.created_at, job.started_at,
        job.completed_at, job.fence, job.attempts, job.alone, json.dumps(job.params),
        json.dumps(job.images), json.dumps(job.error),
    )  # fmt: skip


def _from_row(row: tuple[Any, ...]) -> Job:
    return Job(
        job_id=row[0], owner=row[1], status=Status(row[2]), order=row[3], created_at=row[4],
        started_at=row[5], completed_at=row[6], fence=row[7], attempts=row[8], alone=bool(row[9]),
        params=json.loads(row[10]), images=tuple(json.loads(row[11])), error=json.loads(row[12]),
    )  # fmt: skip


def _one(db: sqlite3.Connection, job_id: str) -> Job | None:
    row = db.execute(f"SELECT {COLUMNS} FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return None if row is None else _from_row(row)
