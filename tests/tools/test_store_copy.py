"""assets store copy: a store moves between a disk and Redis, whole, or stays what it was."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from serve_app.errors import ConfigError, StoreHeld
from serve_app.jobs.job import Status
from serve_app.jobs.store.redis import RedisKeeper
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.tools import store_copy
from serve_app.tools.store_copy import FileEnd, RedisEnd, copy
from tests.cli.harness import run
from tests.factories import job
from tests.jobs.harness import insert
from tests.redis_server import RedisServer, redis_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:
        yield server


async def fill(store: SqliteStore, jobs: int = 40) -> None:
    for number in range(1, jobs + 1):
        new = job(job_id=f"j{number}", number=number, created_at=number / 1e6)
        await insert(store, new)
        if number % 2:
            ended = new.evolve(status=Status.SUCCESS, completed_at=float(number))
            await store.update(ended, expected_fence=0)


def rows(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as db:
        return [*db.iterdump()]


async def test_a_store_goes_to_redis_and_comes_back_the_same(
    server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, back = tmp_path / "here", tmp_path / "back"
    store = SqliteStore(here)
    await fill(store)
    epoch = store.epoch
    await store.close()
    before = rows(here / "jobs.db")
    digest = hashlib.sha256((here / "jobs.db").read_bytes()).hexdigest()
    for ends in (str(here), server.url), (server.url, str(back)):
        assert not run("store", "copy", *ends)
        assert capsys.readouterr().out.strip() == digest
    assert rows(back / "jobs.db") == rows(here / "jobs.db") == before
    assert {path.name for path in back.iterdir()} == {"jobs.db", "registry.lock"}
    assert (back / "jobs.db").stat().st_mode & 0o077 == 0
    store = SqliteStore(RedisKeeper(server.url, tmp_path / "scratch"))
    assert store.epoch == epoch + 1
    assert len(await store.live()) == 20
    await store.close()


@pytest.mark.parametrize("way", ["to redis", "from redis"])
async def test_a_copy_that_was_stopped_goes_on_where_it_stopped(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(store_copy, "AT_ONCE", 4)
    here = tmp_path / "here"
    store = SqliteStore(here if way == "to redis" else RedisKeeper(server.url, here))
    await fill(store)
    await store.close()

    def ends() -> tuple[store_copy.End, store_copy.End]:
        redis = RedisEnd(server.url, "assets", vouched=False)
        if way == "to redis":
            return FileEnd(here), redis
        return redis, FileEnd(tmp_path / "there")

    def stop(firsts: Iterable[int], count: int) -> Iterable[int]:
        for first in firsts:
            if first > 20:
                raise KeyboardInterrupt
            yield first

    with pytest.raises(KeyboardInterrupt):
        copy(*ends(), stop)
    if way == "to redis":
        with pytest.raises(StoreHeld, match="half a copy"):
            RedisKeeper(server.url, tmp_path / "scratch")
    else:
        assert not (tmp_path / "there" / "jobs.db").exists()
    done: list[int] = []

    def watch(firsts: Iterable[int], count: int) -> Iterable[int]:
        for first in firsts:
            done.append(first)
            yield first

    shape = copy(*ends(), watch)
    assert done[0] == 21
    place = (
        RedisKeeper(server.url, tmp_path / "scratch") if way == "to redis" else tmp_path / "there"
    )
    store = SqliteStore(place)
    assert len(await store.live()) == 20
    await store.close()
    assert shape.pages > 20


async def test_a_copy_with_other_bytes_is_no_store(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not gone on with."""
    monkeypatch.setattr(store_copy, "AT_ONCE", 4)
    store = SqliteStore(tmp_path / "here")
    await fill(store, 3)
    await store.close()

    def spoil(firsts: Iterable[int], _: int) -> Iterable[int]:
        yield from firsts
        server.client.hset("assets:pages", "2", bytes(4096))

    ends = FileEnd(tmp_path / "here"), RedisEnd(server.url, "assets", vouched=False)
    with pytest.raises(ConfigError, match="other bytes"):
        copy(*ends, spoil)
    with pytest.raises(StoreHeld, match="half a copy"):
        RedisKeeper(server.url, tmp_path / "scratch")
    assert server.client.get("assets:lease") is None
    again = FileEnd(tmp_path / "here"), RedisEnd(server.url, "assets", vouched=False)
    copy(*again, lambda firsts, _: firsts)
    assert server.client.hexists("assets:store", "size")


async def test_what_a_stopped_copy_left_beside_a_store_is_not_copied(
    server: RedisServer, tmp_path: Path
) -> None:
    store = SqliteStore(tmp_path / "here")
    await fill(store, 3)
    await store.close()
    (tmp_path / "here" / ".jobs.db.copy").write_bytes(b"of another store")
    ends = FileEnd(tmp_path / "here"), RedisEnd(server.url, "assets", vouched=False)
    shape = copy(*ends, lambda firsts, _: firsts)
    assert shape.sha256 == hashlib.sha256((tmp_path / "here" / "jobs.db").read_bytes()).hexdigest()


async def test_a_file_whose_copy_has_other_bytes_is_copied_anew(
    server: RedisServer, tmp_path: Path
) -> None:
    store = SqliteStore(RedisKeeper(server.url, tmp_path / "scratch"))
    await fill(store, 3)
    await store.close()
    part = tmp_path / "there" / ".jobs.db.copy"

    def spoil(firsts: Iterable[int], _: int) -> Iterable[int]:
        yield from firsts
        with part.open("r+b") as file:
            file.write(b"x")

    def ends() -> tuple[store_copy.End, store_copy.End]:
        return RedisEnd(server.url, "assets", vouched=False), FileEnd(tmp_path / "there")

    with pytest.raises(ConfigError, match="other bytes"):
        copy(*ends(), spoil)
    assert not part.exists()
    copy(*ends(), lambda firsts, _: firsts)
    assert (tmp_path / "there" / "jobs.db").exists()


async def test_commits_that_a_reader_keeps_in_the_wal_are_not_left_out(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "here")
    await fill(store, 3)
    await store.close()
    path, connect = tmp_path / "here" / "jobs.db", sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda where: connect(where, timeout=0))
    with closing(connect(path)) as reader, closing(connect(path)) as writer:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
        with writer:
            writer.execute("INSERT INTO meta VALUES ('late', 1)")
        monkeypatch.setattr(store_copy, "about", lambda _: None)
        with pytest.raises(StoreHeld, match="is being read by another process"):
            copy(
                FileEnd(tmp_path / "here"),
                RedisEnd(server.url, "assets", vouched=False),
                lambda firsts, _: firsts,
            )


async def test_a_store_that_was_taken_while_the_source_was_read_keeps_its_pages(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "here")
    await fill(store, 3)
    await store.close()
    to = RedisEnd(server.url, "assets", vouched=False)
    with to.held():
        assert to.size() == (0, 0)
        server.client.delete("assets:lease")  # it ran out
        other = SqliteStore(RedisKeeper(server.url, tmp_path / "scratch"))
        pages = server.client.hlen("assets:pages")
        with pytest.raises(StoreHeld, match="has taken the store meanwhile"):
            to.begin(store_copy.Shape(1, 4096, "of another"))
    assert server.client.hlen("assets:pages") == pages > 0
    await other.close()


async def test_a_store_that_is_used_is_not_copied_nor_copied_over(
    server: RedisServer, tmp_path: Path
) -> None:
    def refused(source: str, to: str) -> str:
        return str(run("store", "copy", source, to))

    disk, redis = str(tmp_path / "here"), server.url
    store = SqliteStore(tmp_path / "here")
    assert "held by process" in refused(disk, redis)
    assert server.names() == set()
    await store.close()
    store = SqliteStore(RedisKeeper(redis, tmp_path / "scratch"))
    assert "held by process" in refused(redis, str(tmp_path / "new"))
    assert "held by process" in refused(disk, redis)
    await store.close()
    assert "holds a job store already" in refused(disk, redis)
    assert "holds a job store already" in refused(redis, disk)
    assert "over itself" in refused(redis, redis)
    assert "there is no job store" in refused(str(tmp_path / "x"), redis)
    server.kill()
    assert "keeps nothing now" in refused(disk, redis)
    server.start()
