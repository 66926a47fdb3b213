"""assets pull: a folder in step with finished jobs, whatever cuts a run and whoever else writes there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest
from fastapi import FastAPI
from PIL import Image

from serve_app.artifacts.credentials.reading import read_credentials
from serve_app.cli.mirror import PART, STATE, Mirror, checked
from serve_app.cli.pulling import RowsOfBatch, unpacked
from serve_app.client import Client, Damaged
from serve_app.errors import ConfigError
from tests.api.harness import LocalTransport, Site, make_app, site
from tests.api.studio import draw, sprite, worked
from tests.cli.harness import run


class Studio:
    """A service that the test draws for."""

    def __init__(self, service: Site) -> None:
        self.service = service
        self.client = Client(service.url)

    def close(self) -> None:
        self.client.close()

    def drawn(self, prompt: str, seed: int = 7, *, tag: str = "ui", many: int = 1) -> str:
        job = self.client.generate(prompt, style_id="icon", seed=seed, n=many, tags=[tag])
        pictures = [sprite((16, 12), seed=seed + n) for n in range(many)]
        self.service.do(draw, self.service.world, job.job_id, pictures)
        return job.job_id

    def packed(self, **order: Any) -> str:
        job = self.client.sheet(**order)
        self.service.do(worked, self.service.world, job.job_id)
        return job.job_id


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Studio]:
    with site(tmp_path) as served:
        monkeypatch.setenv("ASSETS_SERVER", served.url)
        with contextlib.closing(Studio(served)) as studio:
            yield studio


def seen(folder: Path) -> set[str]:
    """Every file but the state."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name != STATE
    }


def times(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in seen(folder)}


def test_what_was_made_again_to_be_compared_is_not_pulled(studio: Studio, tmp_path: Path) -> None:
    first = studio.drawn("a key")
    again = studio.client.reproduce(first)
    studio.service.do(draw, studio.service.world, again.job_id, [sprite((16, 12))])
    assert run("pull", str(tmp_path / "art")) == 0
    assert seen(tmp_path / "art") == {"a_key_7.png"}


def test_what_is_pulled_is_signed_once(studio: Studio, tmp_path: Path) -> None:
    """Pictures and pages. What somebody painted over stays as it is, and what is gone comes back signed."""
    folder, certificate = tmp_path / "art", tmp_path / "certificate"
    studio.drawn("a key")
    studio.packed(tag="ui", name="all")
    assert run("c2pa", "make-cert", str(certificate), "--organisation", "Studio Nord") == 0
    pull = ["pull", str(folder), "--engine", "phaser", "--sign", str(certificate)]
    assert run(*pull) == 0
    for name in ("a_key_7.png", "all.png"):
        said = read_credentials((folder / name).read_bytes(), "png")
        assert said is not None
        assert (said.state, said.title) == ("valid", name)
    before = times(folder)
    assert run(*pull) == 0
    assert times(folder) == before
    (folder / "a_key_7.png").unlink()
    (folder / "all.png").write_bytes(b"painted over")
    assert run(*pull) == 0
    assert (folder / "all.png").read_bytes() == b"painted over"
    assert read_credentials((folder / "a_key_7.png").read_bytes(), "png") is not None


def test_files_come_under_readable_names_and_only_what_is_new(
    studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "art"
    studio.drawn("A red Potion!", many=2)
    studio.drawn("A red Potion!")
    studio.drawn("something else", tag="other")
    assert run("pull", str(folder), "--tag", "ui") == 0
    names = {"a_red_potion_7.png", "a_red_potion_8.png", "a_red_potion_7_2.png"}
    assert seen(folder) == names
    before = times(folder)
    studio.drawn("a shield")
    capsys.readouterr()
    assert run("pull", str(folder), "--tag", "ui") == 0
    assert capsys.readouterr().out.splitlines()[0] == "new      a_shield_7.png"
    assert seen(folder) == names | {"a_shield_7.png"}
    assert {name: at for name, at in times(folder).items() if name in names} == before
    with Image.open(folder / "a_shield_7.png") as image:
        assert image.size == (16, 12)


def test_a_batch_is_pulled_under_the_names_of_its_rows(studio: Studio, tmp_path: Path) -> None:
    """Also what an earlier batch has made under another name. A file keeps the name that it has."""
    folder, world = tmp_path / "art", studio.service.world
    orders = [{"prompt": "a key", "seed": 7, "name": "Key Gold"}, {"prompt": "a shield", "seed": 7}]
    defaults = {"style_id": "icon"}
    studio.client.order_batch(orders, name="keys", defaults=defaults)
    orders.append({"prompt": "a door", "seed": 7, "n": 2, "name": "door"})
    orders[0]["name"] = "key"
    batch = studio.client.order_batch(orders, name="keys", defaults=defaults)
    assert batch.reused == 2
    for row in studio.client.batch_rows(batch.batch_id):
        pictures = [
            sprite((16, 12), seed=10 * row["row"] + n) for n in range(1 + (row["row"] == 3))
        ]
        studio.service.do(draw, world, row["job_id"], pictures)
    studio.drawn("not of it")
    pull = ["pull", str(folder), "--batch", batch.batch_id]
    assert run(*pull) == 0
    named = {"key.png", "a_shield_7.png", "door_0.png", "door_1.png"}
    assert seen(folder) == named
    assert run(*pull, "--names", "{style}/{row:3}_{name}") == 0
    assert seen(folder) == named
    other = tmp_path / "other"
    assert run("pull", str(other), *pull[2:], "--names", "{style}/{row:3}_{name}") == 0
    assert seen(other) == {
        *("icon/001_key.png", "icon/002_a_shield_7.png"),
        *("icon/003_door_0.png", "icon/003_door_1.png"),
    }
    for wrong in (["--names", "{colour}"], ["--names", "{row}"]):
        assert run("pull", str(tmp_path / "none"), *wrong) == 2
    assert not (tmp_path / "none").exists()


def test_a_job_that_is_ordered_again_later_is_of_the_batch(studio: Studio) -> None:
    """`--watch` hears of jobs that did not exist when it asked for the rows."""
    client = studio.client
    batch = client.order_batch([{"prompt": "a key", "style_id": "icon", "name": "key"}])
    rows = RowsOfBatch(client, batch.batch_id)
    rows.ask()
    client.cancel_batch(batch.batch_id)
    client.retry_batch(batch.batch_id)
    (row,) = client.batch_rows(batch.batch_id)
    again = client.job(row["job_id"])
    assert again.retry_of
    assert rows.has(again)
    assert rows.of(again)["name"] == "key"
    assert not rows.has(client.job(studio.drawn("not of it")))


def test_what_others_put_there_or_changed_is_left_alone(
    studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of our name that was there before; a pulled one that was painted over; one that was removed is
    fetched again; one whose job was deleted stays."""
    folder = tmp_path / "art"
    folder.mkdir()
    (folder / "a_key_7.png").write_bytes(b"mine")
    deleted = studio.drawn("a key")
    studio.drawn("a ring")
    studio.drawn("a coin")
    assert run("pull", str(folder)) == 0
    assert seen(folder) == {"a_key_7.png", "a_key_7_2.png", "a_ring_7.png", "a_coin_7.png"}
    (folder / "a_ring_7.png").write_bytes(b"painted over")
    (folder / "a_coin_7.png").unlink()
    studio.client.delete(deleted)
    assert run("pull", str(folder)) == 0
    assert (folder / "a_key_7.png").read_bytes() == b"mine"
    assert (folder / "a_ring_7.png").read_bytes() == b"painted over"
    assert seen(folder) == {"a_key_7.png", "a_key_7_2.png", "a_ring_7.png", "a_coin_7.png"}


def test_a_sheet_brings_the_files_of_the_engine(
    studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that has none for it says so. A newer sheet of the same name takes the place of the older one."""
    studio.drawn("a key", many=2)
    order = {"tag": "ui", "name": "icons", "tags": ["sheets"]}
    studio.packed(**order, formats=["godot", "css"])
    folder = tmp_path / "art"
    assert run("pull", str(folder), "--tag", "sheets", "--engine", "godot") == 0
    assert seen(folder) == {
        "icons.png",
        "icons.png.import",
        "icons_godot/a_key_7.tres",
        "icons_godot/a_key_8.tres",
    }
    (folder / "icons.png.import").write_text("as the editor wrote it")
    first = (folder / "icons.png").read_bytes()
    before = times(folder)
    assert run("pull", str(folder), "--tag", "sheets", "--engine", "godot") == 0
    assert times(folder) == before
    studio.drawn("a door")
    studio.packed(**order, formats=["godot"])
    assert run("pull", str(folder), "--tag", "sheets", "--engine", "godot") == 0
    assert (folder / "icons.png").read_bytes() != first
    assert (folder / "icons_godot/a_door_7.tres").exists()
    assert (folder / "icons.png.import").read_text() == "as the editor wrote it"
    capsys.readouterr()
    assert run("pull", str(tmp_path / "u"), "--tag", "sheets", "--engine", "unity") == 0
    assert "nothing for unity: order it with --format unity" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("engine", "also"),
    [
        ("plain", set[str]()),
        ("godot", {"a_key_7.png.import"}),
        ("unity", {"a_key_7.png.meta"}),
        ("tiled", {"assets.tsx"}),
        ("phaser", {"assets.json"}),
    ],
)
def test_an_engine_gets_what_it_wants_beside_a_picture(
    studio: Studio, tmp_path: Path, engine: str, also: set[str]
) -> None:
    studio.drawn("a key")
    folder = tmp_path / "art"
    assert run("pull", str(folder), "--engine", engine) == 0
    assert seen(folder) == {"a_key_7.png"} | also
    before = times(folder)
    assert run("pull", str(folder), "--engine", engine) == 0
    assert times(folder) == before


def test_a_tile_keeps_its_number(studio: Studio, tmp_path: Path) -> None:
    """A map that names tile 0 must mean the same picture tomorrow."""
    folder = tmp_path / "art"
    studio.drawn("zebra")
    assert run("pull", str(folder), "--engine", "tiled") == 0
    studio.drawn("ant")
    assert run("pull", str(folder), "--engine", "tiled") == 0
    tiles = ElementTree.parse(folder / "assets.tsx").findall("tile")
    found = {tile.get("id"): tile[0].get("source") for tile in tiles}
    assert found == {"0": "zebra_7.png", "2": "ant_7.png"}


# ---- cut in the middle ----


class Cut:
    """Kills the process that fetches the `at`-th file, when half of the file has been sent."""

    def __init__(self, app: FastAPI, at: int) -> None:
        self.app, self.left, self.victim = app, at, 0
        self.killed = threading.Event()
        self.router, self.state = app.router, app.state

    async def __call__(
        self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/output/"):
            await self.app(scope, receive, send)
            return
        self.left -= 1
        if self.left:
            await self.app(scope, receive, send)
            return

        async def half(message: Any) -> None:
            if message["type"] == "http.response.body" and not self.killed.is_set():
                body = message.get("body", b"")
                await send({**message, "body": body[: len(body) // 2], "more_body": True})
                os.kill(self.victim, signal.SIGKILL)
                self.killed.set()
            elif not self.killed.is_set():
                await send(message)

        with contextlib.suppress(OSError):
            await self.app(scope, receive, half)


def test_a_killed_run_leaves_whole_files_and_the_next_one_finishes(tmp_path: Path) -> None:
    """Killed five times while a file was on its way. After each kill every file that is there is whole; at
    the end the folder is as if nothing had happened, under the same names."""
    cuts: list[Cut] = []

    def make(transport: LocalTransport) -> Any:
        cuts.append(Cut(make_app(transport), 10**9))
        return cuts[0]

    with site(tmp_path, make) as served:
        studio, cut = Studio(served), cuts[0]
        with contextlib.closing(studio):
            for n in range(3):
                studio.drawn("a key", seed=n)
            studio.drawn("a ring", many=2)
        expected = {"a_key_0.png", "a_key_1.png", "a_key_2.png", "a_ring_7.png", "a_ring_8.png"}
        folder = tmp_path / "art"
        for at in (1, 2, 2, 1, 1):
            cut.left = at
            cut.killed.clear()
            command = [sys.executable, "-m", "serve_app", "pull", str(folder)]
            victim = subprocess.Popen(
                [*command, "--server", served.url],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            cut.victim = victim.pid
            assert victim.wait(60) == -signal.SIGKILL
            assert cut.killed.is_set()
            for name in seen(folder):
                assert name in expected or name.endswith(PART)
                if name in expected:
                    with Image.open(folder / name) as image:
                        image.load()
        cut.left = 10**9
        assert run("pull", str(folder), "--server", served.url) == 0
        assert seen(folder) == expected
        assert not psutil.pid_exists(cut.victim)


def test_a_file_that_was_cut_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full; the state is not written. The next run takes what is there as its own."""
    mirror = Mirror(tmp_path)
    assert mirror.put("a.png", "one", b"pixels") == "new"  # cut before `save`
    again = Mirror(tmp_path)
    assert again.put("a.png", "one", b"pixels") == "same"
    again.save()
    assert Mirror(tmp_path).path_of("one") == "a.png"
    (tmp_path / f"b.png{PART}").write_bytes(b"half")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    third = Mirror(tmp_path)
    assert not list(tmp_path.glob(f"*{PART}"))
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match=r"b\.png cannot be written: No space left"):
        third.put("b.png", "two", b"pixels")
    assert seen(tmp_path) == {"a.png"}


# ---- what a server must not do ----


@pytest.mark.parametrize(
    "path", ["../a.png", "/etc/a", "a/../../b", ".ssh/key", "", "C:\\a", "a:b", "x/.git/config"]
)
def test_a_path_that_leads_out_is_not_written(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="is not written"):
        Mirror(tmp_path / "in").put(path, "x", b"data")
    with pytest.raises(ConfigError):
        checked(path)
    assert seen(tmp_path) == set()


def test_an_archive_that_is_none_or_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Damaged, match="broken"):
        unpacked(b"PK not really")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * 100_000)
    with pytest.raises(Damaged, match="no manifest"):
        unpacked(file.getvalue())
    monkeypatch.setattr("serve_app.cli.pulling.MAX_UNPACKED", 99_999)
    with pytest.raises(Damaged, match="too large"):
        unpacked(file.getvalue())


def test_a_state_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / STATE).write_text("{")
    assert "broken; remove it" in str(run("pull", str(tmp_path), "--server", "http://127.0.0.1:9"))
    (tmp_path / STATE).write_text(json.dumps({"schema": 99, "files": []}))
    assert "another version" in str(run("pull", str(tmp_path), "--server", "http://127.0.0.1:9"))
    (tmp_path / "file").touch()
    assert "cannot be used" in str(run("pull", str(tmp_path / "file")))


def test_an_engine_that_there_is_not_is_refused(tmp_path: Path) -> None:
    assert run("pull", str(tmp_path), "--engine", "unreal") == 2


def test_watching_brings_what_finishes_later(studio: Studio, tmp_path: Path) -> None:
    """Until Ctrl-C, which ends it with 0."""
    folder = tmp_path / "art"
    studio.drawn("a key")
    command = [sys.executable, "-m", "serve_app", "pull", str(folder), "--watch", "--tag", "ui"]
    with subprocess.Popen(
        [*command, "--server", studio.service.url],
        stdout=subprocess.PIPE,
        text=True,
        # A shell starts what runs in its background with SIGINT ignored, and the tests may run there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "new      a_key_7.png\n"
        studio.drawn("a ring")
        studio.drawn("not wanted", tag="other")
        studio.drawn("a coin")
        printed = iter(watcher.stdout.readline, "")
        while next(printed) != "new      a_coin_7.png\n":
            pass
        watcher.send_signal(signal.SIGINT)
        watcher.communicate()  # it may still print, and must not meet a closed pipe
    assert watcher.returncode == 0
    assert seen(folder) == {"a_key_7.png", "a_ring_7.png", "a_coin_7.png"}
