"""UploadFolder: who finds what, how much is kept, and that no link is followed."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from serve_app.artifacts.brought import PlainPng, brought
from serve_app.artifacts.disk import opened
from serve_app.artifacts.folder import OutputDir
from serve_app.artifacts.uploads import FOLDER, LEFT_BEHIND_S, Quota, UploadFolder
from serve_app.errors import SourceMissing, StorageFailed, UploadsFull
from tests.artifacts.pictures import JOB, PARAMS, rendered

NOW = 1_800_000_000.0
AMPLE = Quota(uploads=100, bytes=2**20)


def picture(shade: int = 0) -> PlainPng:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(file, "PNG")
    return brought(file.getvalue(), 1000)


def added(
    folder: UploadFolder,
    owner: str = "ann",
    shade: int = 0,
    *,
    hours: float = 1,
    quota: Quota = AMPLE,
) -> str:
    expires_at = int(NOW + hours * 3600)
    found, _ = folder.add(owner, picture(shade), now=NOW, expires_at=expires_at, quota=quota)
    return found.upload.upload_id


def files(root: Path) -> list[str]:
    return [path.name for path in (root / FOLDER).iterdir()]


def test_an_upload_is_found_by_its_owner_alone(tmp_path: Path) -> None:
    folder = UploadFolder(tmp_path)
    upload_id = added(folder)
    found = folder.find("ann", upload_id, NOW)
    assert found is not None
    assert (found.width, found.height, found.has_alpha) == (8, 6, False)
    assert found.size_bytes == len(picture().data)
    assert found.upload.sha256 == picture().sha256
    assert folder.find("bob", upload_id, NOW) is None
    assert folder.find("ann", upload_id, NOW + 3600) is None  # its time is over
    assert UploadFolder(tmp_path / "empty").find("ann", upload_id, NOW) is None
    assert "ann" not in files(tmp_path)[0]


def test_the_same_pixels_are_one_upload_that_lives_longer(tmp_path: Path) -> None:
    """Of another owner they are another one."""
    folder = UploadFolder(tmp_path)
    first, again = added(folder), added(folder, hours=5)
    assert first == again != added(folder, "bob")
    assert folder.find("ann", first, NOW + 4 * 3600) is not None
    added(folder, hours=1)
    assert folder.find("ann", first, NOW + 4 * 3600) is not None  # never less
    assert len(files(tmp_path)) == 2


def test_each_owner_has_a_quota(tmp_path: Path) -> None:
    folder, two = UploadFolder(tmp_path), Quota(uploads=2, bytes=2**20)
    for shade in (1, 2):
        added(folder, shade=shade, quota=two)
    with pytest.raises(UploadsFull, match="at most 2") as caught:
        added(folder, shade=3, quota=two)
    assert caught.value.retry_after == 3600
    added(folder, "bob", shade=3, quota=two)
    small = Quota(uploads=9, bytes=2 * len(picture(1).data) + 10)
    with pytest.raises(UploadsFull, match="bytes"):
        added(folder, shade=3, quota=small)
    assert len(files(tmp_path)) == 3


def test_a_deleted_upload_is_gone_but_its_file_waits_for_the_sweep(tmp_path: Path) -> None:
    """A job that was ordered with it may still need it."""
    folder = UploadFolder(tmp_path)
    upload_id = added(folder)
    assert not folder.expire("bob", upload_id, NOW)
    assert folder.expire("ann", upload_id, NOW)
    assert folder.find("ann", upload_id, NOW) is None
    assert not folder.expire("ann", upload_id, NOW)
    assert folder.read(upload_id, picture().sha256) == picture().data
    assert folder.over(NOW) == []
    assert folder.over(NOW + 1) == [upload_id]
    folder.remove([upload_id], NOW)
    with pytest.raises(SourceMissing):
        folder.read(upload_id, picture().sha256)


def test_a_sweep_removes_what_dead_writers_left(tmp_path: Path) -> None:
    """And nothing else."""
    folder = UploadFolder(tmp_path)
    keep = added(folder)
    for name, age in ((".a.tmp", 0), (".b.tmp", LEFT_BEHIND_S + 10), ("notes.txt", 10**6)):
        (tmp_path / FOLDER / name).write_text("")
        os.utime(tmp_path / FOLDER / name, (NOW - age, NOW - age))
    folder.remove([], NOW)
    assert sorted(name for name in files(tmp_path) if keep not in name) == [".a.tmp", "notes.txt"]


def test_a_file_that_was_changed_is_not_read(tmp_path: Path) -> None:
    """What was accepted is what is drawn."""
    folder = UploadFolder(tmp_path)
    upload_id = added(folder)
    (tmp_path / FOLDER / files(tmp_path)[0]).write_bytes(picture(9).data)
    with pytest.raises(SourceMissing):
        folder.read(upload_id, picture().sha256)


def test_a_picture_that_lives_longer_while_it_is_looked_for_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is part of its name."""
    folder = UploadFolder(tmp_path)
    upload_id = added(folder)
    read = folder._storage.read

    def late(path: str) -> bytes:
        monkeypatch.undo()
        added(folder, hours=2)
        return read(path)

    monkeypatch.setattr(folder._storage, "read", late)
    assert folder.read(upload_id, picture().sha256) == picture().data


def test_a_pinned_picture_outlives_its_job(tmp_path: Path) -> None:
    output = OutputDir(tmp_path)
    made = output.write(rendered(), PARAMS, JOB, 1)
    folder = output.uploads
    pinned = folder.pin("ann", made["path"], made["sha256"], NOW)
    output.remove([made["path"]])
    data = folder.read(pinned, made["sha256"])
    assert len(data) == made["size_bytes"]
    assert folder.find("ann", pinned, NOW) is None  # nobody may order with it
    assert folder.over(NOW + 1) == [pinned]
    again = folder.again(pinned, NOW)
    folder.remove([pinned], NOW)
    assert folder.read(again, made["sha256"]) == data
    for missing in (
        lambda: folder.again(pinned, NOW),
        lambda: folder.pin("a", made["path"], "", NOW),
    ):
        with pytest.raises(SourceMissing):
            missing()
    with pytest.raises(ValueError, match="not a path"):
        folder.pin("ann", "../secrets.png", "", NOW)


def test_nothing_is_written_or_read_through_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "output"
    root.mkdir()
    (root / FOLDER).symlink_to(elsewhere)
    folder = UploadFolder(root)
    with pytest.raises(StorageFailed, match="link"):
        added(folder)
    assert [*elsewhere.iterdir()] == []
    assert folder.find("ann", "any", NOW) is None
    with pytest.raises(OSError, match="link"), opened(root, FOLDER):
        pass


def test_a_picture_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    folder = UploadFolder(tmp_path)
    upload_id = added(folder)
    path = tmp_path / FOLDER / files(tmp_path)[0]
    path.rename(tmp_path / "moved.png")
    path.symlink_to(tmp_path / "moved.png")
    with pytest.raises(SourceMissing):
        folder.read(upload_id, picture().sha256)
