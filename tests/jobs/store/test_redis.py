"""The store in Redis: one writer, a commit that is there or not whatever is cut, killed or full."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import ConfigError, StoreHeld
from serve_app.jobs.store import redis as redis_module
from serve_app.jobs.store.database import Database
from serve_app.jobs.store.redis_link import StoreAway
from serve_app.jobs.store.redis_scripts import COMMIT
from tests.cluster.service import wait_until
from tests.jobs.harness import writer_held
from tests.jobs.store.opens import Opens
from tests.redis_server import RedisServer, redis_server


def put(key: str) -> Callable[[sqlite3.Connection], int]:
    return lambda db: db.execute("INSERT INTO meta VALUES (?, 1)", (key,)).rowcount


def keys(db: sqlite3.Connection) -> set[str]:
    return {row["key"] for row in db.execute("SELECT key FROM meta")} - {"epoch"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test's own, which it may kill."""
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:
        yield server


def opened(server: RedisServer, folder: Path, **more: Any) -> Database:
    return Database(Opens(folder / "state", server.url).keeper(**more))


async def in_redis(server: RedisServer, folder: Path) -> set[str]:
    """What whoever opens the store next finds."""
    database = opened(server, folder)
    try:
        return await database.read(keys)
    finally:
        await database.close()


# ---- pages ----


async def test_redis_has_every_page_as_the_file_has_it(server: RedisServer, tmp_path: Path) -> None:
    """After commits that grow, spill, roll back, checkpoint and shrink the database."""
    database = opened(server, tmp_path)
    keeper: Any = database._keeper

    def fill(rows: int) -> Callable[[sqlite3.Connection], None]:
        def operation(db: sqlite3.Connection) -> None:
            db.execute(
                "PRAGMA cache_size = 4"
            )  # pages, so that a transaction writes before its end
            db.executemany(
                "INSERT INTO meta VALUES (hex(randomblob(900)), ?)", [(n,) for n in range(rows)]
            )

        return operation

    def fail(db: sqlite3.Connection) -> None:
        fill(300)(db)
        raise ValueError("after its pages were written")

    for rows in (1, 300, 40):
        await database.write(fill(rows))
        with pytest.raises(ValueError, match="after its pages"):
            await database.write(fail)
        await database.write(lambda db: db.execute("DELETE FROM meta WHERE value = 7").rowcount)
    assert keeper._wal.frames < redis_module.CHECKPOINT_FRAMES, "the WAL began anew"
    grown = keeper._size

    def shrink() -> None:
        with contextlib.closing(sqlite3.connect(database.path)) as db:
            db.execute("DELETE FROM meta WHERE key != 'epoch'")
            db.commit()
            db.execute("VACUUM")

    await asyncio.to_thread(shrink)
    await database.write(put("last"))
    assert keeper._size < grown / 2
    expected = await database.read(lambda db: [*db.iterdump()])
    await database.close()
    assert (
        server.client.hlen("assets:pages") == keeper._size == server.client.zcard("assets:changed")
    )
    again = opened(server, tmp_path)
    found = await again.read(lambda db: [*db.iterdump()])
    await again.close()
    expected.remove("INSERT INTO \"meta\" VALUES('epoch',1);")
    assert {*found} == {*expected, "INSERT INTO \"meta\" VALUES('epoch',2);"}


async def test_a_page_that_is_missing_is_damage_and_nothing_is_opened(
    server: RedisServer, tmp_path: Path
) -> None:
    await opened(server, tmp_path).close()
    server.client.hdel("assets:pages", "2")
    with pytest.raises(StoreHeld, match="damaged: page 2 of "):
        opened(server, tmp_path)
    assert server.client.get("assets:lease") is None


async def test_no_other_user_may_read_the_copy_and_none_is_left(
    server: RedisServer, tmp_path: Path
) -> None:
    database = opened(server, tmp_path)
    (folder,) = (tmp_path / "state").glob(f"{redis_module.PREFIX}*")
    assert folder.stat().st_mode & 0o077 == 0
    (tmp_path / "state" / f"{redis_module.PREFIX}of-a-dead-one").mkdir()
    with pytest.raises(StoreHeld):
        opened(server, tmp_path)
    assert folder.exists()
    await database.close()
    await opened(server, tmp_path).close()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["assets.in-redis"]


# ---- one writer ----


HOLDER = """
import asyncio, logging, os, sys
from pathlib import Path
from serve_app.jobs.store.database import Database
from serve_app.jobs.store.redis import RedisKeeper

logging.basicConfig(stream=sys.stderr, format="%(message)s")

async def hold():
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    keeper = RedisKeeper(
        sys.argv[1], Path(sys.argv[2]), lease_s=float(sys.argv[3]),
        on_lost=lambda why: loop.call_soon_threadsafe(ended.set),
    )
    database = Database(keeper)
    print(database.epoch, flush=True)
    await ended.wait()
    try:
        await database.write(lambda db: db.execute("INSERT INTO meta VALUES ('late', 1)").rowcount)
    except Exception as error:
        print(error, flush=True)
    await database.close()

asyncio.run(hold())
"""


@contextlib.contextmanager
def holder(server: RedisServer, folder: Path, lease_s: float) -> Generator[subprocess.Popen[str]]:
    args = [server.url, str(folder / "other"), str(lease_s)]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_a_second_registry_is_refused_and_told_the_holder(
    server: RedisServer, tmp_path: Path
) -> None:
    first = opened(server, tmp_path)
    with pytest.raises(StoreHeld, match=f"held by process {os.getpid()} on .*its lease ends in"):
        opened(server, tmp_path)
    await first.write(put("a"))
    await first.close()
    assert await in_redis(server, tmp_path) == {"a"}


async def test_a_holder_that_was_killed_here_is_replaced_at_once(
    server: RedisServer, tmp_path: Path
) -> None:
    with holder(server, tmp_path, 600) as process:
        with pytest.raises(StoreHeld, match=f"process {process.pid} "):
            opened(server, tmp_path)
        process.kill()
        process.wait()
        database = opened(server, tmp_path)
        assert database.epoch == 2
        await database.close()


async def test_one_that_slept_through_its_lease_can_change_nothing_and_ends(
    server: RedisServer, tmp_path: Path
) -> None:
    """SIGSTOP, as of a machine that stalls; a second one takes over; SIGCONT."""
    with holder(server, tmp_path, 0.6) as process:
        process.send_signal(signal.SIGSTOP)
        second = await asyncio.to_thread(opened, server, tmp_path, lock_timeout_s=20)
        assert second.epoch == 2
        await second.write(put("a"))
        process.send_signal(signal.SIGCONT)
        said, logged = await asyncio.to_thread(process.communicate, timeout=20)
        assert process.returncode == 0
        taken = f"another registry has taken the job store: process {os.getpid()} on "
        assert taken in logged
        assert "This one can change nothing any more" in logged
        assert taken in said, "its write was refused"
        await second.write(put("b"))
        await second.close()
    assert await in_redis(server, tmp_path) == {"a", "b"}


@pytest.mark.parametrize("written", ["somebody", '["somebody"]', ""])
async def test_whatever_stands_in_the_lease_it_is_somebody_elses(
    server: RedisServer, tmp_path: Path, written: str
) -> None:
    await opened(server, tmp_path).close()
    server.client.set("assets:lease", written, px=60_000)
    with pytest.raises(StoreHeld, match=r"is held by .*its lease ends in 60 s"):
        opened(server, tmp_path)


async def test_a_lease_that_ended_while_nobody_came_is_still_ours(
    server: RedisServer, tmp_path: Path
) -> None:
    database = opened(server, tmp_path, lease_s=3600)
    server.client.delete("assets:lease")
    await database.write(put("a"))
    await database.close()
    assert await in_redis(server, tmp_path) == {"a"}


async def test_a_store_that_was_emptied_meanwhile_gets_no_half_of_ours(
    server: RedisServer, tmp_path: Path
) -> None:
    lost: list[str] = []
    database = opened(server, tmp_path, on_lost=lost.append)
    server.client.flushall()
    with pytest.raises(StoreAway, match="can change nothing any more"):
        await database.write(put("a"))
    with pytest.raises(StoreAway, match="can change nothing any more"):
        await database.write(put("b"))
    assert await database.read(keys) == set()
    assert len(lost) == 1
    await database.close()
    assert server.client.hlen("assets:pages") == 0


async def test_a_server_that_lost_its_files_is_not_taken_for_a_new_one(
    server: RedisServer, tmp_path: Path
) -> None:
    await opened(server, tmp_path).close()
    server.client.flushall()
    note = tmp_path / "state" / "assets.in-redis"
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"no job store 'assets' any more.* remove {note}"):
            opened(server, tmp_path)
    note.unlink()
    database = opened(server, tmp_path)
    assert database.epoch == 1
    await database.close()


def test_a_server_that_never_had_a_store_may_be_emptied(
    server: RedisServer, tmp_path: Path
) -> None:
    """A registry that ended before its first commit leaves no note of a store."""
    for _ in range(2):
        Opens(tmp_path / "state", server.url).keeper().release()
        server.client.flushall()


# ---- Redis is away ----


async def test_while_redis_is_away_reads_go_on_and_ends_wait(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "PATIENCE_S", 0.0)
    database = opened(server, tmp_path)
    await database.write(put("before"))
    server.kill()
    for key in ("refused", "too"):
        with pytest.raises(StoreAway, match="keeps nothing now"):
            await database.write(put(key))
    assert await database.read(keys) == {"before"}
    end = asyncio.create_task(database.write(put("end"), patient=True))
    with pytest.raises(StoreAway):
        await database.write(put("refused"))
    assert not end.done()
    assert await database.read(keys) == {"before"}
    server.start()
    assert await asyncio.wait_for(end, 10) == 1
    await database.write(put("after"))
    assert await database.read(keys) == {"before", "end", "after"}
    await database.close()
    assert await in_redis(server, tmp_path) == {"before", "end", "after"}


async def test_a_short_absence_is_not_noticed(server: RedisServer, tmp_path: Path) -> None:
    database = opened(server, tmp_path)
    server.kill()
    write = asyncio.create_task(database.write(put("a")))
    await asyncio.to_thread(server.start)
    assert await write == 1
    await database.close()
    assert await in_redis(server, tmp_path) == {"a"}


async def test_redis_killed_under_load_keeps_what_was_confirmed_and_nothing_else(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "PATIENCE_S", 0.0)
    database = opened(server, tmp_path)
    confirmed, failed, stop = set[str](), 0, False
    moved = asyncio.Event()

    async def client(name: int) -> None:
        nonlocal failed
        number = 0
        while not stop:
            number += 1
            try:
                await database.write(put(f"{name}-{number}"))
            except StoreAway:
                failed += 1
            else:
                confirmed.add(f"{name}-{number}")
            moved.set()

    async def more(counted: Callable[[], int], number: int) -> None:
        enough = counted() + number
        while counted() < enough:
            moved.clear()
            await moved.wait()

    clients = [asyncio.create_task(client(name)) for name in range(8)]
    for _ in range(3):
        await more(lambda: len(confirmed), 200)
        await asyncio.to_thread(server.kill)
        await more(lambda: failed, 1)
        await asyncio.to_thread(server.start)
    stop = True
    await asyncio.gather(*clients)
    assert await database.read(keys) == confirmed
    await database.close()
    assert await in_redis(server, tmp_path) == confirmed


async def test_without_memory_writes_are_refused_until_there_is_some(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "PATIENCE_S", 0.0)
    database = opened(server, tmp_path, lease_s=0.3)
    await database.write(put("a"))
    server.client.config_set("maxmemory", "1mb")
    for key in ("b", "c"):
        with pytest.raises(StoreAway, match="used memory > 'maxmemory'"):
            await database.write(put(key))
    assert await database.read(keys) == {"a"}
    server.client.config_set("maxmemory", "0")
    await database.write(put("d"))
    await database.close()
    assert await in_redis(server, tmp_path) == {"a", "d"}


async def test_a_password_that_changed_is_an_absence(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that writes, and the one that renews the lease, outlive it."""
    monkeypatch.setattr(redis_module, "PATIENCE_S", 0.0)
    database = opened(server, tmp_path, lease_s=0.15)
    server.client.config_set("requirepass", "new")
    server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    for _ in range(2):
        with pytest.raises(StoreAway, match="refuses the password"):
            await database.write(put("a"))
    over = lambda: not server.client.exists("assets:lease")  # noqa: E731
    await asyncio.to_thread(wait_until, over, 20, "renewals fail, too")
    server.client.config_set("requirepass", "")
    await database.write(put("b"))
    lease: Any = database._keeper
    assert lease._thread.is_alive()
    await database.close()
    assert await in_redis(server, tmp_path) == {"b"}


async def test_a_commit_that_redis_cannot_take_is_refused_and_harms_nothing(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = opened(server, tmp_path)
    monkeypatch.setattr(redis_module, "MOST_BYTES", 100_000)
    with pytest.raises(StoreAway, match=r"too large for Redis.*assets store copy"):
        await database.write(
            lambda db: db.execute("INSERT INTO meta VALUES (hex(zeroblob(99999)), 1)").rowcount
        )
    await database.write(put("a"))
    assert await database.read(keys) == {"a"}
    await database.close()
    assert await in_redis(server, tmp_path) == {"a"}


async def test_a_copy_that_cannot_be_mended_ends_the_registry(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is away, and the disk of the copy is full."""
    monkeypatch.setattr(redis_module, "PATIENCE_S", 0.0)
    lost: list[str] = []
    database = opened(server, tmp_path, on_lost=lost.append)

    def full(source: Path, to: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serve_app.jobs.store.pages.shutil.copyfile", full)
    server.kill()
    with pytest.raises(StoreAway):
        await database.write(put("a"))
    with pytest.raises(StoreAway, match=r"cannot be mended: .*No space left"):
        await database.write(put("b"))
    assert len(lost) == 1
    server.start()
    await database.close()
    monkeypatch.undo()
    assert await in_redis(server, tmp_path) == set()


# ---- replies that are lost ----


class Cut:
    """Between a keeper and its server. `reply`: the next answer to a commit is lost with its connection;
    `after` is called then, before anybody can ask again."""

    def __init__(self, server: RedisServer) -> None:
        self._server, self.reply = server, False
        self.after: Callable[[], None] = lambda: None
        self.lost = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                thread = threading.Thread(target=self._carry, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, client: socket.socket) -> None:
        commit = threading.Event()
        with contextlib.suppress(OSError), client:
            server = socket.create_connection(("127.0.0.1", self._server.port))
            back = threading.Thread(target=self._back, args=(server, client, commit), daemon=True)
            with server:
                back.start()
                while data := client.recv(1 << 16):
                    if COMMIT.encode() in data:
                        commit.set()
                    server.sendall(data)
                server.shutdown(socket.SHUT_RDWR)
                back.join()

    def _back(self, server: socket.socket, client: socket.socket, commit: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if self.reply and commit.is_set():
                    self.reply = False
                    self.lost += 1
                    self.after()
                    client.shutdown(socket.SHUT_RDWR)
                    return
                commit.clear()
                client.sendall(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def cut(server: RedisServer) -> Iterator[Cut]:
    cut = Cut(server)
    yield cut
    cut.close()


def commits(server: RedisServer) -> int:
    return int(server.client.hget("assets:store", "commit"))


async def test_a_commit_whose_reply_was_lost_is_recognised(
    server: RedisServer, cut: Cut, tmp_path: Path
) -> None:
    database = Database(Opens(tmp_path / "state", cut.url).keeper())
    before = commits(server)
    cut.reply = True
    assert await database.write(put("a")) == 1
    assert cut.lost == 1
    assert commits(server) == before + 1, "it was not done twice"
    await database.write(put("b"))
    await database.close()
    assert await in_redis(server, tmp_path) == {"a", "b"}


async def test_a_commit_that_was_given_up_is_taken_back_where_it_arrived(
    server: RedisServer, cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis had it and died before it said so. Its callers were told that nothing is stored."""
    monkeypatch.setattr(redis_module, "PATIENCE_S", 0.0)
    database = Database(Opens(tmp_path / "state", cut.url).keeper())
    await database.write(put("a"))
    size = int(server.client.hget("assets:store", "size"))

    def much(db: sqlite3.Connection) -> None:
        put("ghost")(db)
        db.execute("INSERT INTO meta VALUES (hex(zeroblob(30000)), 1)")

    cut.reply, cut.after = True, server.kill
    with pytest.raises(StoreAway):
        await database.write(much)
    assert cut.lost == 1
    assert await database.read(keys) == {"a"}
    server.start()
    assert int(server.client.hget("assets:store", "size")) > size, "Redis has the ghost"
    await database.write(put("b"))
    assert await database.read(keys) == {"a", "b"}
    await database.close()
    assert await in_redis(server, tmp_path) == {"a", "b"}


async def test_a_commit_that_removed_pages_and_was_given_up_is_taken_back(
    server: RedisServer, cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "PATIENCE_S", 0.0)
    database = Database(Opens(tmp_path / "state", cut.url).keeper())
    names = [f"{n:02}{'x' * 2000}" for n in range(60)]
    await database.write(
        lambda db: db.executemany("INSERT INTO meta VALUES (?, 1)", [(n,) for n in names]).rowcount
    )
    await database.write(lambda db: db.execute("DELETE FROM meta WHERE key > '05'").rowcount)
    size = int(server.client.hget("assets:store", "size"))

    def shrink() -> None:  # what it removes it does not write
        with contextlib.closing(sqlite3.connect(database.path)) as db:
            db.execute("VACUUM")

    await asyncio.to_thread(shrink)
    cut.reply, cut.after = True, server.kill
    with pytest.raises(StoreAway):
        await database.write(put("ghost"))
    server.start()
    assert int(server.client.hget("assets:store", "size")) < size, "Redis has the ghost"
    await database.write(put("b"))
    await database.close()
    assert await in_redis(server, tmp_path) == {*names[:5], "b"}


async def test_nobody_reads_what_is_not_kept_yet(
    server: RedisServer, cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has it for a moment; a read that saw it waits, and looks again when it was taken back."""
    monkeypatch.setattr(redis_module, "PATIENCE_S", 0.0)
    database = Database(Opens(tmp_path / "state", cut.url).keeper())
    await database.write(put("a"))
    committed, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        committed.set()
        go_on.wait(20)
        server.kill()

    cut.reply, cut.after = True, hold
    write = asyncio.create_task(database.write(put("ghost")))
    assert await asyncio.to_thread(committed.wait, 20)
    with contextlib.closing(sqlite3.connect(database.path)) as db:
        assert db.execute("SELECT 1 FROM meta WHERE key = 'ghost'").fetchone() == (1,)
    read = asyncio.create_task(database.read(keys))
    done, _ = await asyncio.wait([read, write], timeout=0.2)
    assert not done
    go_on.set()
    with pytest.raises(StoreAway):
        await write
    assert await read == {"a"}
    server.start()
    await database.close()


async def test_writes_that_come_together_are_sent_together(
    server: RedisServer, tmp_path: Path
) -> None:
    database = opened(server, tmp_path)
    before = commits(server)
    async with writer_held(database):
        writes = [asyncio.create_task(database.write(put(str(n)))) for n in range(50)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*writes) == [1] * 50
    assert commits(server) == before + 1, "who held the writer changed nothing"
    await database.close()
