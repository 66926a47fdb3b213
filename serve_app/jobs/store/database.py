"""Database: one SQLite file, and a keeper that this process holds.

One thread owns the connection that writes, and commits all waiting writes together, with one fsync. Reads
have connections of their own and wait for no write. Knows connections, transactions and versions of the
tables, not what the tables hold, nor how a keeper keeps them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from serve_app.errors import StoreHeld
from serve_app.jobs.store.directory import Directory, Keeper
from serve_app.jobs.store.finding import fill_words
from serve_app.jobs.store.schema import INDEXES, SCHEMA_VERSION, TABLES
from serve_app.jobs.store.upgrades import UPGRADES, add_functions
from serve_app.jobs.store.used import fill_used

log = logging.getLogger("assets.registry")

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], Any]

READERS = 2
GROUP = 256
"""Most writes in one transaction."""
AGAIN_AFTER_S = 0.25
"""So often patient writes are tried."""
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
    patient: bool = False  # tried again and again while the keeper cannot keep it


class Database:
    """Held by this process until `close` or its death. `epoch`: how often it has been opened so far."""

    def __init__(self, where: Path | Keeper, *, lock_timeout_s: float = 10.0) -> None:
        """`where`: a directory, or the keeper itself. Raises StoreHeld, naming the holder, if another process
        has it; sqlite3.Error if it is out of order."""
        if isinstance(where, Path):
            where = Directory(where, lock_timeout_s=lock_timeout_s)
        self._keeper = where
        self._settled = Settled()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._checkpointer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._local = threading.local()
        self._reading: list[sqlite3.Connection] = []
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._ready: Future[int] = Future()
        self._held: list[Write] = []  # patient writes that could not be kept yet
        self._stopping = False
        self._slowest = 0.0
        self._thread = threading.Thread(target=self._serve, name="database", daemon=True)
        self._thread.start()
        try:
            self.epoch = self._ready.result()
        except BaseException:
            self._keeper.release()
            raise

    @property
    def path(self) -> Path:
        """Of the SQLite file."""
        return self._keeper.path

    async def close(self) -> None:
        """Afterwards `jobs.db` alone holds everything."""
        if self._thread.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._checkpointer.shutdown)
        await asyncio.to_thread(self._readers.shutdown)
        for db in self._reading:
            db.close()
        await asyncio.to_thread(_checkpoint, self.path, "TRUNCATE")
        self._keeper.release()

    def take_slowest_commit(self) -> float:
        """Seconds that the slowest commit took since the last call."""
        slowest, self._slowest = self._slowest, 0.0
        return slowest

    def take_sent(self) -> int:
        """Bytes that commits sent elsewhere since the last call."""
        return self._keeper.take_sent()

    async def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run `operation` and return its result. It sees everything committed before the call. Raises
        sqlite3.Error."""
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, self._reader, operation
        )

    def _reader(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        while True:
            path = self.path
            try:
                result = operation(self._connection(path))
            except sqlite3.Error:
                if path == self.path:
                    raise
                continue  # that file is gone
            # It may have seen a commit that is not kept yet, and never will be. Where SQLite keeps it, nobody
            # sees it before.
            if not self._keeper.durable:
                self._settled.wait()
            if path == self.path:
                return result

    def _connection(self, path: Path) -> sqlite3.Connection:
        """This thread's own."""
        db, opened = getattr(self._local, "db", None), getattr(self._local, "path", None)
        if db is None or opened != path:
            if db is not None:
                self._reading.remove(db)
                db.close()
            uri = f"{path.absolute().as_uri()}?mode=ro"
            db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            db.row_factory = sqlite3.Row
            self._local.db, self._local.path = db, path
            self._reading.append(db)
        return db

    async def write(
        self, operation: Callable[[sqlite3.Connection], T], *, patient: bool = False
    ) -> T:
        """Run `operation`, commit, and return its result. Operations run in the order of the calls; one may
        run twice, when another one of its group fails. Raises sqlite3.Error, and then nothing is stored.
        `patient`: if the keeper is away, wait until it is back."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(Write(operation, loop, future, patient))
        return (
            await future
        )  # a caller that is cancelled hears nothing of it; it is written all the same

    def _serve(self) -> None:
        db: sqlite3.Connection | None
        try:
            db, epoch = _open(self._keeper)
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(epoch)
        since, running = 0, None  # writes since the last checkpoint; the one that runs
        while not self._stopping and (group := self._next()) is not None:
            began = time.perf_counter()
            db = self._commit(db, group)
            self._slowest = max(self._slowest, time.perf_counter() - began)
            since += len(group)
            if (
                self._keeper.durable  # else the keeper checkpoints what it has kept
                and since >= CHECKPOINT_EVERY
                and (running is None or running.done())
            ):
                since, running = 0, self._checkpointer.submit(_checkpoint, self.path, "PASSIVE")
        if self._held:
            _wake(self._held, [sqlite3.OperationalError("the store was closed")] * len(self._held))
        if db is not None:
            db.close()

    def _commit(
        self, db: sqlite3.Connection | None, group: list[Write]
    ) -> sqlite3.Connection | None:
        """Run a group of operations in one transaction, keep it, and tell their callers with one wake-up of
        the loop. An operation that fails is undone alone. A commit that fails, because the disk is full, or
        that cannot be kept, fails all that are not patient. Returns the connection for the next group; None:
        it could not be opened yet."""
        try:
            self._keeper.ready()
            if db is None:
                db = _connect(self._keeper)
                log.warning("the job store is open again")
        except sqlite3.Error as error:
            self._put_off(group, error)
            return db
        try:
            results = _run(db, group, self._settled.begin)
            self._keeper.keep(db)
        except sqlite3.Error as error:
            db.close()
            db = self._reopened()
            self._put_off(group, error)
        else:
            _wake(group, results)
        finally:
            self._settled.end()
        return db

    def _reopened(self) -> sqlite3.Connection | None:
        try:
            return _connect(self._keeper)
        except sqlite3.Error as error:  # this thread must go on: the next group tries again
            log.error("the job store cannot be opened: %s", error)
            return None

    def _put_off(self, group: list[Write], error: sqlite3.Error) -> None:
        self._held = [write for write in group if write.patient]
        hasty = [write for write in group if not write.patient]
        if hasty:
            _wake(hasty, [error] * len(hasty))

    def _next(self) -> list[Write] | None:
        """What is to be committed next; None: it is time to stop. While nothing comes, the WAL is folded,
        once."""
        group, self._held = self._held, []
        try:
            first = self._queue.get(timeout=AGAIN_AFTER_S if group else FOLD_AFTER_S)
        except queue.Empty:
            if group:
                return group
            _checkpoint(self.path, "TRUNCATE")
            first = self._queue.get()
        with contextlib.suppress(queue.Empty):
            while first is not None:
                group.append(first)
                if len(group) >= GROUP:
                    break
                first = self._queue.get_nowait()
        self._stopping = first is None
        return group or None


class Settled:
    """Whether everything that was committed is kept, or undone."""

    def __init__(self) -> None:
        self._condition, self._open = threading.Condition(), False

    def wait(self) -> None:
        """Until nothing is in between."""
        with self._condition:
            self._condition.wait_for(lambda: not self._open)

    def begin(self) -> None:
        with self._condition:
            self._open = True

    def end(self) -> None:
        with self._condition:
            self._open = False
            self._condition.notify_all()


def _run(db: sqlite3.Connection, group: list[Write], committing: Callable[[], None]) -> list[Any]:
    """What each operation returned, or an exception in its place. `committing` is called before they can be
    seen."""
    try:
        return _together(db, group, committing)
    except Exception:
        # One of the group failed. Nobody was told a result yet: run them again, each in a savepoint.
        return _one_by_one(db, group, committing)


def _wake(group: list[Write], results: list[Any]) -> None:
    loop = group[0].loop
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_tell, group, results)


def _together(
    db: sqlite3.Connection, group: list[Write], committing: Callable[[], None]
) -> list[Any]:
    db.execute("BEGIN IMMEDIATE")
    try:
        results: list[Any] = []
        for write in group:
            results.append(write.operation(db))
            if not db.in_transaction:  # what follows would be committed at once
                raise sqlite3.OperationalError("the transaction is lost")
        committing()
        db.execute("COMMIT")
    except BaseException:
        _roll_back(db)
        raise
    return results


def _one_by_one(
    db: sqlite3.Connection, group: list[Write], committing: Callable[[], None]
) -> list[Any]:
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
        committing()
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


def _open(keeper: Keeper) -> tuple[sqlite3.Connection, int]:
    """The database with today's tables, and this start's epoch, committed before anything else."""
    db = _connect(keeper)
    try:
        epoch = _prepare(db, keeper.copies)
        keeper.keep(db)
        return db, epoch
    except BaseException:
        db.close()
        raise


def _connect(keeper: Keeper) -> sqlite3.Connection:
    db = sqlite3.connect(keeper.path, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    try:
        db.execute("PRAGMA journal_mode = WAL")
        # An accepted job must survive a power cut: here, or with its keeper.
        db.execute(f"PRAGMA synchronous = {'FULL' if keeper.durable else 'OFF'}")
        # What is not kept yet must not get from the WAL into the database.
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES if keeper.durable else 0}")
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, copies: Path) -> int:
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found > SCHEMA_VERSION:
        raise StoreHeld(f"the job store has schema {found}, this code knows {SCHEMA_VERSION}")
    if 0 < found < SCHEMA_VERSION:
        _copy_before_upgrade(db, found, copies)
    add_functions(db)
    # In one transaction, which covers changes of tables, too: an upgrade that is killed has changed nothing.
    db.executescript(f"BEGIN; {UPGRADES.get(found, '')} {TABLES} {INDEXES}")
    if 0 < found < 9:  # nothing was found by its words
        fill_words(db)
    if 0 < found < 10:  # nor counted by its bytes
        fill_used(db)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")
    return db.execute(
        "INSERT INTO meta VALUES ('epoch', 1)"
        " ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value"
    ).fetchone()[0]


def _copy_before_upgrade(db: sqlite3.Connection, found: int, copies: Path) -> None:
    """The way back to the code before: its database, beside the one that is upgraded."""
    copy = copies / f"jobs-schema-{found}.db"
    new = copy.with_name(f".{copy.name}.part")
    new.unlink(missing_ok=True)
    db.execute("VACUUM INTO ?", (str(new),))
    new.chmod(0o600)
    new.replace(copy)
    log.info("the job store is upgraded from schema %d; %s is a copy of it", found, copy.name)
