"""The database: one owner, one writer whose groups fail alone, readers beside it, a WAL that stays short."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import StoreHeld
from serve_app.jobs.store import database as database_module
from serve_app.jobs.store.database import CHECKPOINT_EVERY, WAL_PAGES, Database
from serve_app.jobs.store.directory import FILES
from serve_app.jobs.store.schema import SCHEMA_VERSION
from tests.jobs.harness import writer_held


def put(key: str) -> Callable[[sqlite3.Connection], int]:
    return lambda db: db.execute("INSERT INTO meta VALUES (?, 1)", (key,)).rowcount


def keys(db: sqlite3.Connection) -> list[str]:
    return [row["key"] for row in db.execute("SELECT key FROM meta ORDER BY key")]


# ---- one owner ----


async def test_a_second_process_is_refused_and_told_the_holder(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with pytest.raises(StoreHeld, match=f"process {os.getpid()} on "):
        Database(tmp_path, lock_timeout_s=0)
    await database.close()
    again = Database(tmp_path, lock_timeout_s=0)
    assert again.epoch == 2
    await again.close()


def test_the_lock_of_a_killed_holder_is_free_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from serve_app.jobs.store.database import Database\n"
        "database = Database(Path(sys.argv[1]))\n"
        "print(database.epoch, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"1\n"
    with pytest.raises(StoreHeld, match=f"process {holder.pid}"):
        Database(tmp_path, lock_timeout_s=0)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    database = Database(tmp_path, lock_timeout_s=0)
    assert database.epoch == 2
    asyncio.run(database.close())


async def test_a_database_of_newer_code_is_left_alone(tmp_path: Path) -> None:
    await Database(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreHeld, match=f"schema {SCHEMA_VERSION + 1}"):
        Database(tmp_path, lock_timeout_s=0)
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone() == (1,)


async def test_no_other_user_may_read_it(tmp_path: Path) -> None:
    """The rows hold prompts. That holds for files of older versions, too."""
    made = tmp_path / "state"
    await Database(made).close()
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    for path in made.iterdir():
        path.chmod(0o644)
    database = Database(made)
    await database.write(put("a"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()}
    assert modes == dict.fromkeys(FILES, 0o600)
    await database.close()


# ---- writes ----


async def test_what_is_written_is_synced_before_it_is_answered(tmp_path: Path) -> None:
    database = Database(tmp_path)
    modes = await database.write(
        lambda db: [
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        ]
    )
    assert modes == ["wal", 2]  # 2 is FULL
    await database.write(put("a"))
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'a'").fetchone() == (1,)
    await database.close()


async def test_writes_share_a_commit_and_fail_alone(tmp_path: Path) -> None:
    """An operation that fails in a group is undone, and takes no other with it."""
    database = Database(tmp_path)

    def half(db: sqlite3.Connection) -> None:
        put("half")(db)
        put("epoch")(db)  # is there already

    async with writer_held(database):
        writes = [
            asyncio.create_task(database.write(operation))
            for operation in (put("a"), half, put("b"))
        ]
        await asyncio.sleep(0)
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [int, sqlite3.IntegrityError, int]
    assert await database.read(keys) == ["a", "b", "epoch"]
    await database.close()


async def test_all_who_share_a_commit_are_woken_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To wake the loop from another thread costs more than most writes."""
    database = Database(tmp_path)
    loop, woken = asyncio.get_running_loop(), list[object]()
    wake = loop.call_soon_threadsafe
    async with writer_held(database):
        writes = [asyncio.create_task(database.write(put(f"{i:02}"))) for i in range(20)]
        await asyncio.sleep(0)
        monkeypatch.setattr(
            loop, "call_soon_threadsafe", lambda *call: (woken.append(call), wake(*call))[1]
        )
    assert await asyncio.gather(*writes) == [1] * 20
    assert len(woken) == 2, "one for who held the writer, one for the twenty"
    await database.close()


async def test_a_transaction_that_is_lost_fails_them_all_and_the_next_one_is_good(
    tmp_path: Path,
) -> None:
    """SQLite rolls the whole transaction back by itself when the disk is full; here an operation does."""
    database = Database(tmp_path)
    async with writer_held(database):
        writes = [
            asyncio.create_task(database.write(operation))
            for operation in (put("a"), lambda db: db.execute("ROLLBACK").rowcount, put("b"))
        ]
        await asyncio.sleep(0)
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [sqlite3.OperationalError] * 3
    assert await database.read(keys) == ["epoch"]
    assert await database.write(put("a")) == 1
    assert await database.read(keys) == ["a", "epoch"]
    await database.close()


async def test_a_database_that_cannot_be_opened_again_at_once_is_opened_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that writes outlives it; patient writes wait."""
    database = Database(tmp_path)
    connect, refusals = database_module._connect, 3

    def refuse(*_: object) -> Any:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(database._keeper)

    def fail(_: object) -> None:
        monkeypatch.setattr(database._keeper, "keep", lambda _: None)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(database_module, "_connect", refuse)
    monkeypatch.setattr(database._keeper, "keep", fail)
    with pytest.raises(sqlite3.OperationalError, match="disk"):
        await database.write(put("a"))
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        await database.write(put("b"))
    assert await asyncio.wait_for(database.write(put("c"), patient=True), 10) == 1
    assert refusals < 0
    refusals = 10**9
    monkeypatch.setattr(database._keeper, "keep", fail)
    with pytest.raises(sqlite3.OperationalError, match="disk"):
        await database.write(put("d"))
    await asyncio.wait_for(database.close(), 10)


async def test_a_caller_that_is_cancelled_takes_back_no_write(tmp_path: Path) -> None:
    database = Database(tmp_path)
    async with writer_held(database):
        write = asyncio.create_task(database.write(put("a")))
        await asyncio.sleep(0)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
    assert await database.write(keys) == ["a", "epoch"]
    await database.close()


async def test_reads_wait_for_no_write(tmp_path: Path) -> None:
    """They see what was committed before, not what is being written."""
    database = Database(tmp_path)
    async with writer_held(database):
        write = asyncio.create_task(database.write(put("a")))
        assert await asyncio.wait_for(database.read(keys), 5) == ["epoch"]
    await write
    assert await database.read(keys) == ["a", "epoch"]
    await database.close()


async def test_close_writes_what_was_asked_for_before(tmp_path: Path) -> None:
    database = Database(tmp_path)
    async with writer_held(database):
        write = asyncio.create_task(database.write(put("a")))
        await asyncio.sleep(0)
        closing = asyncio.create_task(database.close())
        await asyncio.sleep(0)
    await asyncio.gather(write, closing)
    again = Database(tmp_path)
    assert await again.read(keys) == ["a", "epoch"]
    await again.close()


# ---- the WAL ----


async def test_the_wal_is_copied_beside_the_writer(tmp_path: Path) -> None:
    """The database file soon has what was written, long before the writer would copy it itself."""
    database = Database(tmp_path)
    try:
        for write in range(WAL_PAGES // 8):  # a write is a page or two
            await database.write(put(f"write {write}"))
            if b"write 0" in (tmp_path / "jobs.db").read_bytes():
                break
        else:
            pytest.fail("nothing was copied")
        assert write >= CHECKPOINT_EVERY - 1
    finally:
        await database.close()


def copied(directory: Path) -> list[str]:
    """What whoever copies `jobs.db` alone has."""
    shutil.copy(directory / "jobs.db", directory / "copy.db")
    with contextlib.closing(sqlite3.connect(directory / "copy.db")) as db:
        db.row_factory = sqlite3.Row
        return keys(db)


async def test_after_a_clean_end_the_database_file_has_everything(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.read(keys)
    await database.write(put("a"))
    await database.close()
    assert copied(tmp_path) == ["a", "epoch"]
    assert not (tmp_path / "jobs.db-wal").exists()


async def test_soon_after_the_last_write_the_database_file_has_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the service is stopped then."""
    folded, checkpoint = threading.Event(), database_module._checkpoint

    def noted(path: Path, mode: Any) -> None:
        checkpoint(path, mode)
        folded.set()

    monkeypatch.setattr(database_module, "FOLD_AFTER_S", 0.05)
    monkeypatch.setattr(database_module, "_checkpoint", noted)
    database = Database(tmp_path)
    await database.read(keys)  # somebody who has read does not keep it from that
    for key in ("a", "b"):
        folded.clear()
        await database.write(put(key))
        assert await asyncio.to_thread(folded.wait, 10)
    assert copied(tmp_path) == ["a", "b", "epoch"]
    assert (tmp_path / "jobs.db-wal").stat().st_size == 0
    assert await database.write(keys) == ["a", "b", "epoch"]
    await database.close()
