"""Database: one SQLite file in a locked directory.

One thread owns the connection that writes, and commits all waiting writes together, with one fsync. Reads
have connections of their own and wait for no write. Knows connections, transactions and versions of the
tables, not what the tables hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeVar

from serve_app.errors import StoreHeld
from serve_app.jobs.store.finding import fill_words
from serve_app.jobs.store.schema import INDEXES, SCHEMA_VERSION, TABLES
from serve_app.jobs.store.upgrades import UPGRADES, add_functions

log = logging.getLogger("assets.registry")

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], Any]

FILES = ("registry.lock", "jobs.db", "jobs.db-wal", "jobs.db-shm")
"""All that lies in the directory. SQLite gives the last two the permissions of the second."""
READERS = 2
GROUP = 256
"""Most writes in one transaction."""
FOLD_AFTER_S = 1.0
"""When nothing was written for so long, the WAL is folded into the database: whoever then stops the service,
in whatever way, and copies `jobs.db` alone, has everything."""
CHECKPOINT_EVERY = 100
"""Writes between two checkpoints. Such a checkpoint copies some hundred pages and takes milliseconds."""
WAL_PAGES = 16_384
"""The WAL restarts only after a full checkpoint, and constant writes prevent one. At this length (64 MiB) the
writer checkpoints itself."""


class Write(NamedTuple):
    """An operation on its way, and who waits for its result in which loop."""

    operation: Operation
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class Database:
    """Locked for this process until `close` or its death. `epoch`: how often it has been opened so far."""

    def __init__(self, directory: Path, *, lock_timeout_s: float = 10.0) -> None:
        """Raises StoreHeld, naming the holder, if another process has the directory."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in FILES:
            _keep_to_oneself(directory / name)
        self._lock = _lock(directory / "registry.lock", lock_timeout_s)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._checkpointer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._local = threading.local()
        self._reading: list[sqlite3.Connection] = []
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._ready: Future[int] = Future()
        self._path = directory / "jobs.db"
        self._slowest = 0.0
        self._thread = threading.Thread(target=self._serve, name="database", daemon=True)
        self._thread.start()
        try:
            self.epoch = self._ready.result()
        except BaseException:
            self._lock.close()
            raise

    async def close(self) -> None:
        """Afterwards `jobs.db` alone holds everything."""
        if self._thread.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._checkpointer.shutdown)
        await asyncio.to_thread(self._readers.shutdown)
        for db in self._reading:
            db.close()
        await asyncio.to_thread(_checkpoint, self._path, "TRUNCATE")
        self._lock.close()

    def take_slowest_commit(self) -> float:
        """Seconds that the slowest commit took since the last call."""
        slowest, self._slowest = self._slowest, 0.0
        return slowest

    async def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run `operation` and return its result. It sees everything committed before the call. Raises
        sqlite3.Error."""
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, self._reader, operation
        )

    def _reader(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            db.row_factory = sqlite3.Row
            self._local.db = db
            self._reading.append(db)
        return operation(db)

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run `operation`, commit, and return its result. Operations run in the order of the calls; one may
        run twice, when another one of its group fails. Raises sqlite3.Error, and then nothing is stored."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(Write(operation, loop, future))
        return (
            await future
        )  # a caller that is cancelled hears nothing of it; it is written all the same

    def _serve(self) -> None:
        try:
            db, epoch = _open(self._path)
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(epoch)
        since, running = 0, None  # writes since the last checkpoint; the one that runs
        with contextlib.closing(db):
            while (first := self._next()) is not None:
                group = [first]
                stop = False
                with contextlib.suppress(queue.Empty):
                    while len(group) < GROUP:
                        item = self._queue.get_nowait()
                        if item is None:
                            stop = True
                            break
                        group.append(item)
                began = time.perf_counter()
                _commit(db, group)
                self._slowest = max(self._slowest, time.perf_counter() - began)
                since += len(group)
                if since >= CHECKPOINT_EVERY and (running is None or running.done()):
                    since, running = (
                        0,
                        self._checkpointer.submit(_checkpoint, self._path, "PASSIVE"),
                    )
                if stop:
                    return

    def _next(self) -> Write | None:
        """What comes next in the queue. While nothing comes, the WAL is folded, once."""
        try:
            return self._queue.get(timeout=FOLD_AFTER_S)
        except queue.Empty:
            _checkpoint(self._path, "TRUNCATE")
            return self._queue.get()


def _commit(db: sqlite3.Connection, group: list[Write]) -> None:
    """Run a group of operations in one transaction, and tell their callers with one wake-up of the loop. An
    operation that fails is undone alone. A commit that fails, because the disk is full, fails them all."""
    try:
        results = _together(db, group)
    except Exception:
        # One of the group failed. Nobody was told a result yet: run them again, each in a savepoint.
        results = _one_by_one(db, group)
    loop = group[0].loop
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_tell, group, results)


def _together(db: sqlite3.Connection, group: list[Write]) -> list[Any]:
    db.execute("BEGIN IMMEDIATE")
    try:
        results: list[Any] = []
        for write in group:
            results.append(write.operation(db))
            if not db.in_transaction:  # what follows would be committed at once
                raise sqlite3.OperationalError("the transaction is lost")
        db.execute("COMMIT")
    except BaseException:
        _roll_back(db)
        raise
    return results


def _one_by_one(db: sqlite3.Connection, group: list[Write]) -> list[Any]:
    """What each operation returned, or an exception in its place."""
    results: list[Any] = []
    try:
        db.execute("BEGIN IMMEDIATE")
        for write in group:
            db.execute("SAVEPOINT one")
            try:
                results.append(write.operation(db))
            except Exception as error:
                db.execute("ROLLBACK TO one")
                results.append(error)
            db.execute("RELEASE one")
        db.execute("COMMIT")
    except sqlite3.Error as error:
        _roll_back(db)
        return [error] * len(group)
    return results


def _roll_back(db: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):  # SQLite may have done so by itself
        db.execute("ROLLBACK")


def _tell(group: list[Write], results: list[Any]) -> None:
    for write, result in zip(group, results, strict=True):
        if write.future.done():
            continue
        if isinstance(result, Exception):
            write.future.set_exception(result)
        else:
            write.future.set_result(result)


def _checkpoint(path: Path, mode: Literal["PASSIVE", "TRUNCATE"]) -> None:
    """Copy committed pages from the WAL into the database, while others write and read. In the writer's
    thread this would delay the next writes by some 15 ms. TRUNCATE leaves the WAL empty, unless somebody
    still reads what it holds; it does not wait for them."""
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"  # if the file is away, do not make a new one
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0)) as db:
            db.execute(f"PRAGMA wal_checkpoint({mode})")
    except sqlite3.Error as error:
        log.warning("the WAL of the job store was not checkpointed, it grows: %s", error)


def _open(path: Path) -> tuple[sqlite3.Connection, int]:
    """The database with today's tables, and this start's epoch, committed before anything else."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    try:
        return db, _prepare(db)
    except BaseException:
        db.close()
        raise


def _prepare(db: sqlite3.Connection) -> int:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # an accepted job must survive a power cut
    db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found > SCHEMA_VERSION:
        raise StoreHeld(f"the job store has schema {found}, this code knows {SCHEMA_VERSION}")
    if 0 < found < SCHEMA_VERSION:
        _copy_before_upgrade(db, found)
    add_functions(db)
    # In one transaction, which covers changes of tables, too: an upgrade that is killed has changed nothing.
    db.executescript(f"BEGIN; {UPGRADES.get(found, '')} {TABLES} {INDEXES}")
    if 0 < found < 9:  # nothing was found by its words
        fill_words(db)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")
    return db.execute(
        "INSERT INTO meta VALUES ('epoch', 1)"
        " ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value"
    ).fetchone()[0]


def _copy_before_upgrade(db: sqlite3.Connection, found: int) -> None:
    """The way back to the code before: its database, beside the one that is upgraded."""
    (main,) = (Path(row["file"]) for row in db.execute("PRAGMA database_list") if row["file"])
    copy = main.with_name(f"jobs-schema-{found}.db")
    new = copy.with_name(f".{copy.name}.part")
    new.unlink(missing_ok=True)
    db.execute("VACUUM INTO ?", (str(new),))
    new.chmod(0o600)
    new.replace(copy)
    log.info("the job store is upgraded from schema %d; %s is a copy of it", found, copy.name)


def _keep_to_oneself(path: Path) -> None:
    """The rows hold prompts, so no other user may read them. The directory's own permissions are changed by
    nobody here: it may be an operator's."""
    if path.suffix in (".lock", ".db"):
        path.touch(mode=0o600)
    with contextlib.suppress(FileNotFoundError):
        path.chmod(0o600)


def holder_of(directory: Path) -> str | None:
    """Who has the store open, in words; None: nobody. Takes nothing from anybody."""
    try:
        with (directory / "registry.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return (directory / "registry.lock").read_text().strip() or "an unknown process"
    return None


@contextlib.contextmanager
def held(directory: Path) -> Generator[None]:
    """Nobody opens the store in `directory` meanwhile, which is made if it is missing. Raises StoreHeld."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _keep_to_oneself(directory / "registry.lock")
    with _lock(directory / "registry.lock", 2.0):
        yield


def _lock(path: Path, timeout_s: float) -> IO[str]:
    """An exclusive lock that the kernel releases when this process dies, however it dies."""
    file = path.open("a+")
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # flock has no timed wait. The lock of a killed process is free within milliseconds.
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
