"""Storage: the same promises by a folder and by a real S3 server, and what is built on them."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pytest

from serve_app.artifacts.copying import Copied, copy_file, copy_uploads
from serve_app.artifacts.folder import OutputDir
from serve_app.artifacts.names import ArtifactName
from serve_app.artifacts.storage import FolderStorage, Storage, storage_at
from serve_app.artifacts.uploads import Quota
from serve_app.errors import SourceMissing, StorageFailed, UploadsFull
from serve_app.params import summary_of
from tests.artifacts.pictures import DAY, JOB, OTHER, PARAMS, rendered
from tests.artifacts.test_uploads import AMPLE, NOW, added, picture
from tests.bucket import Bucket

DATA = bytes(range(256)) * 16


@pytest.fixture(params=["folder", "objects"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty place."""
    if request.param == "folder":
        return str(tmp_path / "output")
    bucket: Bucket = request.getfixturevalue("bucket")
    return bucket.at(f"art/{uuid.uuid4().hex}")


@pytest.fixture
def storage(address: str) -> Storage:
    return storage_at(address)


def test_what_was_put_is_read_whole_or_in_part(storage: Storage) -> None:
    storage.put("day/a.png", DATA)
    assert storage.read("day/a.png") == DATA
    for first, count in (0, 26), (100, 7), (4000, 10**6), (5, None):
        end = None if count is None else first + count
        assert storage.read("day/a.png", first, count) == DATA[first:end]
    with storage.open("day/a.png") as file:
        assert file.read(300) == DATA[:300]
        assert file.seek(-6, 2) == len(DATA) - 6
        assert (file.read(), file.read()) == (DATA[-6:], b"")


def test_a_name_is_taken_once(storage: Storage) -> None:
    """And the bytes under it stay, whoever comes later."""
    storage.put("day/a.png", DATA)
    with pytest.raises(FileExistsError):
        storage.put("day/a.png", b"of a late attempt")
    assert storage.read("day/a.png") == DATA


def test_a_folder_tells_what_is_in_it(storage: Storage) -> None:
    for path in ("day/a.png", "day/b.png", "days/c.png", "other/d.png"):
        storage.put(path, path.encode())
    assert sorted(storage.names("day")) == ["a.png", "b.png"]
    assert storage.names("nothing") == []
    assert storage.stats("nothing", ["a.png"]) == {}
    for names in (["a.png"], ["a.png", "z.png"], ["z.png"]):
        assert sorted(storage.stats("day", names)) == ["a.png"][: "a.png" in names]
    many = storage.stats("day", ["a.png", "b.png"])
    assert [stat.size for stat in many.values()] == [9, 9]
    assert abs(many["a.png"].modified - many["b.png"].modified) < 60


def test_what_is_not_there_is_a_missing_file_and_nothing_else(storage: Storage) -> None:
    for call in (
        lambda: storage.read("day/a.png"),
        lambda: storage.open("day/a.png"),
        lambda: storage.copy("day/a.png", "day/b.png"),
        lambda: storage.move("day/a.png", "day/b.png"),
    ):
        with pytest.raises(FileNotFoundError):
            call()
    assert storage.remove(["day/a.png"]) == 1


def test_a_second_name_outlives_the_first(storage: Storage) -> None:
    storage.put("day/a.png", DATA)
    storage.copy("day/a.png", "kept/b.png")
    assert storage.remove(["day/a.png", "day/z.png"]) == 2
    storage.move("kept/b.png", "kept/c.png")
    assert (storage.names("day"), storage.names("kept")) == ([], ["c.png"])
    assert storage.read("kept/c.png") == DATA


def test_a_place_has_one_id_for_all_who_see_it(storage: Storage, address: str) -> None:
    """Which it keeps. A probe leaves nothing else."""
    assert storage.identity() == ""
    identity = storage.probe("")
    assert identity == storage.probe("another") == storage_at(address).identity()
    assert storage_at(storage.address).address == storage.address
    assert storage.names(".probe") == []


# ---- what is built on it ----


def test_pictures_of_attempts_are_kept_apart_found_and_removed(storage: Storage) -> None:
    output = OutputDir(storage)
    params = PARAMS.model_copy(update={"n": 2})
    files = [output.write(rendered(), params, JOB, fence) for fence in (1, 2)]
    other = output.write(rendered(), params, OTHER, 1)
    for file in files:
        data = output.read(file["path"])
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
    with pytest.raises(StorageFailed, match="stored already") as caught:
        output.write(rendered(color=(9, 9, 9)), params, JOB, 1)
    assert not caught.value.passes
    assert sorted(output.files_of([JOB])[JOB]) == sorted(file["path"] for file in files)
    output.remove(output.names_for(JOB, summary_of(params), 1))
    assert output.files_of([JOB, OTHER]) == {JOB: [files[1]["path"]], OTHER: [other["path"]]}


def test_uploads_live_as_long_as_they_are_needed(storage: Storage) -> None:
    uploads = OutputDir(storage).uploads
    upload_id = added(uploads)
    assert added(uploads, hours=5) == upload_id
    found = uploads.find("ann", upload_id, NOW + 4 * 3600)
    assert found is not None
    assert (found.width, found.height, found.size_bytes) == (8, 6, len(picture().data))
    with pytest.raises(UploadsFull):
        added(uploads, shade=3, quota=Quota(1, 10**6))
    with pytest.raises(UploadsFull):
        added(uploads, shade=3, quota=Quota(9, len(picture().data)))
    again = uploads.again(upload_id, NOW)
    assert uploads.expire("ann", upload_id, NOW)
    assert sorted(uploads.over(NOW + 1)) == sorted([upload_id, again])
    uploads.remove([upload_id], NOW)
    assert uploads.read(again, picture().sha256) == picture().data
    for call in (
        lambda: uploads.read(upload_id, picture().sha256),
        lambda: uploads.pin("ann", ArtifactName("game_icon", 7, JOB, 0, 1).path, "", NOW),
    ):
        with pytest.raises(SourceMissing):
            call()


def test_a_pinned_picture_stays_when_its_job_goes(storage: Storage) -> None:
    output = OutputDir(storage)
    file = output.write(rendered(), PARAMS, JOB, 1)
    pinned = output.uploads.pin("ann", file["path"], file["sha256"], NOW)
    output.remove([file["path"]])
    assert len(output.uploads.read(pinned, file["sha256"])) == file["size_bytes"]


def test_files_are_copied_out_and_back(storage: Storage, tmp_path: Path) -> None:
    """A backup, and its restore."""
    output, backup = OutputDir(storage), FolderStorage(tmp_path / "backup")
    file = output.write(rendered(), PARAMS, JOB, 1)
    path, sha256 = file["path"], file["sha256"]
    expires_at = int(NOW + 10)
    output.uploads.add("ann", picture(), now=NOW, expires_at=expires_at, quota=AMPLE)
    assert copy_file(storage, backup, path, sha256) is Copied.NEW
    assert copy_file(storage, backup, path, sha256) is Copied.THERE
    assert copy_uploads(storage, backup, NOW, set()) == 1
    assert backup.names(DAY) == [path.partition("/")[2]]
    output.remove([path])
    assert copy_file(storage, FolderStorage(tmp_path / "new"), path, sha256) is Copied.MISSING
    assert copy_file(backup, storage, path, sha256) is Copied.NEW
    assert copy_file(storage, FolderStorage(tmp_path / "new"), path, "0" * 64) is Copied.DAMAGED
    assert copy_uploads(backup, storage, NOW, set()) == 0
