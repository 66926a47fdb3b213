"""assets backup and restore: what is copied while the service works is a whole service again."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from serve_app.artifacts.brought import PlainPng
from serve_app.artifacts.folder import OutputDir
from serve_app.artifacts.names import ArtifactName
from serve_app.artifacts.storage import FolderStorage
from serve_app.artifacts.uploads import Quota
from serve_app.errors import ConfigError, StorageFailed, StoreHeld
from serve_app.jobs.store.copies import PAST_FENCES, about
from serve_app.jobs.store.redis import RedisKeeper, fetched
from serve_app.jobs.store.redis_link import RedisLink
from serve_app.jobs.store.schema import SCHEMA_VERSION
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import ImageFile
from serve_app.tools.backup import BackupReport, back_up, copies, restore
from tests.cli.harness import run
from tests.factories import image_file
from tests.jobs.harness import World
from tests.redis_server import redis_server

NEVER = 4e9  # unix seconds


class Studio(World):
    """A registry whose files have the names that they have in a service, and its backups."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.output = self.directory / "out"
        self.state = self.directory / "state"
        self.backups = self.directory / "backups"
        self.real = OutputDir(self.output)

    async def rise(self) -> None:
        self.files = self.real  # pyright: ignore[reportAttributeAccessIssue] - it is what `Folder` stands for
        await super().rise()

    def drawn(self, job_id: str, fence: int) -> ImageFile:
        data = f"{job_id} {fence}".encode()
        name = ArtifactName("icon", 7, job_id, 0, fence)
        self.real.put(name, data)
        return image_file(data, path=name.path)

    async def make(self, job_id: str, fence: int = 1) -> Path:
        """A job drawn to its end. Its file."""
        await self.started(job_id, fence)
        image = self.drawn(job_id, fence)
        assert await self.finish(job_id, fence, [image])
        return self.output / image["path"]

    def back_up(self, keep: int = 7) -> BackupReport:
        output = FolderStorage(self.output)
        return back_up(self.state, output, self.backups, keep, lambda files, _: files)

    def restore(self, name: str = "", *, replace: bool = False) -> BackupReport:
        output = FolderStorage(self.output)
        return restore(
            self.state, output, self.backups, name, lambda files, _: files, replace=replace
        )

    def lose(self) -> None:
        shutil.rmtree(self.state)
        shutil.rmtree(self.output)


def only_file(folder: Path) -> Path:
    (found,) = (path for path in folder.rglob("*.png"))
    return found


async def test_a_lost_disk_comes_back_and_nothing_accepted_is_lost(tmp_path: Path) -> None:
    async with Studio(tmp_path, {"max_in_flight": 1}) as studio:
        done = await studio.submit()
        picture = await studio.make(done)
        content = picture.read_bytes()
        running, waiting = await studio.submit(), await studio.submit()
        await studio.started(running)

        report = studio.back_up()
        assert (report.about.jobs, report.about.live, report.new) == (3, 2, 1)
        assert report.missing == report.damaged == []
        assert report.copy.stat().st_mode & 0o777 == 0o600
        assert studio.backups.stat().st_mode & 0o777 == 0o700
        epoch = studio.registry.epoch

        await studio.make(running)  # what the copy knows nothing of
        await studio.die_and_rise()
        await studio.die()
        studio.lose()
        assert studio.restore().new == 1
        await studio.rise()

        assert studio.registry.epoch > epoch + 1, "no epoch comes twice"
        assert await studio.status(done) == "SUCCESS"
        assert picture.read_bytes() == content
        for job_id in (running, waiting):
            await studio.make(job_id, PAST_FENCES + 1 + (job_id == running))
            assert await studio.status(job_id) == "SUCCESS"
        assert len(studio.launcher.launched) == 2, "and nothing is drawn twice"


async def test_a_store_in_redis_is_backed_up_while_it_is_written_and_brought_back(
    tmp_path: Path,
) -> None:
    """By way of a folder: `assets store copy` takes it from there."""
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:

        def rename(db: sqlite3.Connection) -> int:
            return db.execute("UPDATE jobs SET style_id = 'renamed'").rowcount

        def opens(prefix: str = "assets") -> SqliteStore:
            return SqliteStore(RedisKeeper(server.url, tmp_path / "scratch", prefix=prefix))

        link = RedisLink(server.url, "assets")
        async with Studio(tmp_path, {"max_in_flight": 1}, opens=opens) as studio:
            done = await studio.submit()
            picture = await studio.make(done)
            late: list[str] = []

            def meanwhile(*_: object) -> Iterator[tuple[int, list[bytes | None]]]:
                for first, pages in fetched(link, int(link.facts()["size"])):
                    yield first, pages
                    if not late:  # a commit between the first pages and the last
                        late.append(server.client.hget("assets:store", "commit").decode())
                        write = studio.registry._store._database.write(rename)
                        asyncio.run_coroutine_threadsafe(write, loop).result(10)

            loop, output = asyncio.get_running_loop(), FolderStorage(studio.output)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("serve_app.jobs.store.redis_copies.fetched", meanwhile)
                report = await asyncio.to_thread(
                    back_up, studio.state, output, studio.backups, 7, lambda f, _: f, link
                )
            assert late != [server.client.hget("assets:store", "commit").decode()]
            assert (report.about.jobs, report.new) == (1, 1)
            assert [path.name for path in studio.backups.glob("jobs-*")] == [report.copy.name]
            with closing(sqlite3.connect(report.copy)) as db:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                assert db.execute("SELECT style_id FROM jobs").fetchone() == ("renamed",)
        link.close()
        server.client.flushall()
        shutil.rmtree(studio.output)
        studio.restore()
        assert not run("store", "copy", str(studio.state), server.url, "--prefix", "again")
        studio.opens = lambda: opens("again")
        await studio.rise()
        assert await studio.status(done) == "SUCCESS"
        assert picture.exists()
        await studio.die()


async def test_a_file_that_came_after_the_copy_is_in_nobodys_way(tmp_path: Path) -> None:
    """Only the store was lost: the attempts after the copy took names that none takes again."""
    async with Studio(tmp_path) as studio:
        job_id = await studio.submit()
        await studio.started(job_id)
        studio.back_up()
        early = await studio.make(job_id)
        await studio.die()
        shutil.rmtree(studio.state)
        studio.restore()
        await studio.rise()
        late = await studio.make(job_id, PAST_FENCES + 2)
        assert late != early
        assert (await studio.look(job_id))["images"][0]["path"].endswith(late.name)


async def test_the_next_backup_copies_what_is_new_and_keeps_what_a_copy_names(
    tmp_path: Path,
) -> None:
    async with Studio(tmp_path) as studio:
        first = await studio.submit()
        old = await studio.make(first)
        one = studio.back_up()
        same = one.copy.rename(one.copy.with_name("jobs-20260101T000000Z.db"))
        await studio.registry.delete(first, "ann")
        await studio.until(lambda: not old.exists())
        await studio.make(await studio.submit())

        two = studio.back_up()
        assert (two.new, two.there, two.removed) == (1, 0, 0)
        assert copies(studio.backups) == [two.copy, same]
        assert (studio.backups / "output" / old.relative_to(studio.output)).exists()

        three = studio.back_up(keep=1)
        assert (three.new, three.there, three.removed) == (0, 1, 1), "of the deleted job"
        assert copies(studio.backups) == [three.copy]
        only_file(studio.backups)


async def test_files_that_cannot_be_copied_as_they_were_are_named(tmp_path: Path) -> None:
    async with Studio(tmp_path) as studio:
        gone = await studio.make(await studio.submit())
        rotten = await studio.make(await studio.submit())
        gone.unlink()
        rotten.write_bytes(b"a bit fell over")
        report = studio.back_up()
        assert report.missing == [str(gone.relative_to(studio.output))]
        assert report.damaged == [str(rotten.relative_to(studio.output))]
        assert not [*studio.backups.rglob("*.png")]


async def test_uploads_come_back_while_they_may_be_ordered_with(tmp_path: Path) -> None:
    async with Studio(tmp_path) as studio:
        kept = {}
        for name, expires_at in ("new", NEVER), ("old", 1.0):
            data = name.encode()
            png = PlainPng(data, 1, 1, False, hashlib.sha256(data).hexdigest())
            kept[name], _ = studio.real.uploads.add(
                "local", png, now=0, expires_at=int(expires_at), quota=Quota(9, 999)
            )
        assert studio.back_up().uploads == 1
        await studio.die()
        studio.lose()
        assert studio.restore().uploads == 1
        upload = kept["new"].upload
        assert studio.real.uploads.read(upload.upload_id, upload.sha256) == b"new"
        await studio.rise()


async def test_a_store_that_is_used_or_there_is_not_written_over(tmp_path: Path) -> None:
    async with Studio(tmp_path) as studio:
        first = await studio.submit()
        studio.back_up()
        second = await studio.submit()
        with pytest.raises(StoreHeld, match="process"):
            studio.restore(replace=True)
        assert (await studio.look(second))["job_id"] == second

        await studio.die()
        with pytest.raises(ConfigError, match="--replace puts it aside"):
            studio.restore()
        report = studio.restore(replace=True)
        assert report.aside is not None
        assert about(report.aside).jobs == 2
        await studio.rise()
        assert (await studio.look(first))["job_id"] == first
        assert await studio.registry.get(second) is None


async def test_a_backup_that_was_killed_leaves_nothing_that_counts(tmp_path: Path) -> None:
    async with Studio(tmp_path) as studio:
        picture = await studio.make(await studio.submit())
        studio.back_up()
        (studio.backups / "jobs-20991231T000000Z.db.part").write_bytes(b"half")
        day = studio.backups / "output" / picture.parent.name
        (day / f".{picture.name}.tmp").write_bytes(b"half")
        (day / picture.name).unlink()
        assert studio.back_up().new == 1
        assert (day / picture.name).read_bytes() == picture.read_bytes()
        assert not [*studio.backups.rglob("*.part"), *studio.backups.rglob("*.tmp")]


async def test_what_cannot_be_backed_up_or_restored_says_why(tmp_path: Path) -> None:
    async with Studio(tmp_path) as studio:
        with pytest.raises(ConfigError, match="there is no backup"):
            studio.restore()
        studio.backups = studio.output / "copies"
        with pytest.raises(ConfigError, match="own output_dir"):
            studio.back_up()
        studio.backups = tmp_path / "file"
        studio.backups.write_text("no folder")
        with pytest.raises(StorageFailed, match="File exists"):
            studio.back_up()
        studio.backups = tmp_path / "backups"
        copy = studio.back_up().copy
        with pytest.raises(ConfigError, match=f"it has {copy.name}"):
            studio.restore("jobs-20200101T000000Z.db")
        await studio.die()
        shutil.rmtree(studio.state)
        for content, why in (b"text", "cannot be read"), (b"", "no job store"):
            whole = copy.read_bytes()
            copy.write_bytes(content)
            with pytest.raises(ConfigError, match=why):
                studio.restore()
            copy.write_bytes(whole)
        with closing(sqlite3.connect(copy)) as db:
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        with pytest.raises(ConfigError, match=f"this code knows schema {SCHEMA_VERSION}"):
            studio.restore()
        assert not studio.state.exists()
        with pytest.raises(ConfigError, match="nothing to back up"):
            studio.back_up()
        await studio.rise()


async def test_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Studio(tmp_path) as studio:
        monkeypatch.setenv("ASSETS_STATE_DIR", str(studio.state))
        monkeypatch.setenv("ASSETS_OUTPUT_DIR", str(studio.output))
        picture = await studio.make(await studio.submit())
        assert run("backup", str(studio.backups), "--keep", "3") == 0
        said = capsys.readouterr()
        (copy,) = copies(studio.backups)
        assert said.out == f"{copy}\n"
        assert "1 jobs; 1 new files" in said.err
        assert run("restore", str(studio.backups), "--list") == 0
        assert capsys.readouterr().out == f"{copy.name}\n"
        await studio.die()
        studio.lose()
        monkeypatch.setenv("REDIS_URL", "redis://localhost")
        for name, value in {"PREFIX": "mine", "VOUCHED": "true"}.items():
            monkeypatch.setenv(f"ASSETS_REDIS_{name}", value)
        monkeypatch.setenv("ASSETS_RETENTION_DAYS", "30")
        assert run("restore", str(studio.backups)) == 0
        said = f"assets store copy {studio.state} REDIS_URL --prefix mine --vouched"
        assert said in capsys.readouterr().err
        monkeypatch.delenv("REDIS_URL")
        assert picture.exists()
        picture.unlink()
        shutil.rmtree(studio.backups / "output")
        assert run("backup", str(studio.backups)) == 1
        assert f"missing: {picture.relative_to(studio.output)}" in capsys.readouterr().err
        await studio.rise()
