"""`python -m serve_app.delivery`: a folder becomes a sheet, and what is wrong is said in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from serve_app.delivery.folder import clip_of, read_folder
from serve_app.delivery.formats.encoding import as_png
from serve_app.errors import InvalidField
from tests.delivery.art import sprite


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three frames of a walk, and what is no PNG."""
    for i in (1, 2, 10):
        (tmp_path / f"walk {i}.png").write_bytes(as_png(sprite(f"w{i}", 9, 7 + i).pixels))
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "serve_app.delivery", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_a_folder_becomes_a_zip(folder: Path) -> None:
    out = folder / "hero.zip"
    done = command(str(folder), "--out", str(out), "--format", "godot", "--format", "css",
                   "--clip", "walk=walk_*@12,once")  # fmt: skip
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("manifest.json"))
    assert {"hero.png", "hero.css", "hero.frames.tres", "hero_godot/walk_10.tres"} <= set(names)
    [clip] = manifest["spec"]["clips"]
    assert clip == {"name": "walk", "frames": ["walk_1", "walk_2", "walk_10"], "fps": 12.0,
                    "loop": False}  # fmt: skip


def test_what_is_wrong_is_said_without_a_traceback(folder: Path) -> None:
    done = command(str(folder), "--out", str(folder / "a.zip"), "--format", "flash")
    assert done.returncode == 2
    assert "formats.0" in done.stderr
    assert "texturepacker_hash" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "a.zip").exists()


def test_a_place_that_cannot_be_written_is_said_without_a_traceback(folder: Path) -> None:
    done = command(str(folder), "--out", str(folder / "gone" / "a.zip"))
    assert done.returncode == 2
    assert "No such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_loads_neither_torch_nor_ray() -> None:
    code = "import sys, serve_app.delivery.__main__; print(*{'torch', 'ray', 'fastapi'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_frames_are_in_natural_order(folder: Path) -> None:
    assert [one.name for one in read_folder(folder)] == ["walk_1", "walk_2", "walk_10"]


def test_two_files_of_one_safe_name_are_refused(folder: Path) -> None:
    (folder / "walk_1.png").write_bytes(as_png(sprite("x").pixels))
    with pytest.raises(InvalidField, match="walk_1"):
        read_folder(folder)


def test_a_folder_without_pngs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="no PNG"):
        read_folder(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="no folder"):
        read_folder(tmp_path / "gone")


def test_a_broken_png_is_refused_by_name(folder: Path) -> None:
    (folder / "broken.png").write_bytes(as_png(sprite("x").pixels)[:50])
    with pytest.raises(InvalidField, match="broken"):
        read_folder(folder)


@pytest.mark.parametrize("text", ["walk", "walk=w*", "walk=w*@", "=w*@3", "walk=w*@twelve"])
def test_a_clip_that_is_not_name_frames_rate_is_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="NAME=FRAMES@FPS"):
        clip_of(text, ["w1"])


def test_a_clip_that_matches_no_frame_names_those_there_are() -> None:
    with pytest.raises(InvalidField) as caught:
        clip_of("walk=x*@3", ["w1"])
    assert caught.value.allowed == ["w1"]
