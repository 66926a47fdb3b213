"""OutputDir: where files go, that none is left half-written or overwritten, and how they are removed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve_app.api.output import OutputFiles
from serve_app.artifacts import storage
from serve_app.artifacts.folder import OutputDir, _reason
from serve_app.artifacts.names import ArtifactName
from serve_app.errors import StorageFailed
from serve_app.params import summary_of
from tests.artifacts.pictures import DAY, JOB, OTHER, PARAMS, rendered

# ---- writing ----


def test_a_file_lies_under_the_day_of_its_job(tmp_path: Path) -> None:
    """Also when an attempt is made after midnight."""
    file = OutputDir(tmp_path).write(rendered(2), PARAMS, JOB, 3)
    assert file["path"] == f"{DAY}/game_icon_9_{JOB}_2_3.png"
    assert (tmp_path / file["path"]).is_file()


def test_the_answer_describes_the_file(tmp_path: Path) -> None:
    """Size and hash are those of the file on disk."""
    file = OutputDir(tmp_path).write(rendered(1), PARAMS, JOB, 1)
    data = (tmp_path / file["path"]).read_bytes()
    assert (file["size_bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert (file["index"], file["seed"], file["width"], file["height"]) == (1, 8, 24, 16)
    assert (file["content_type"], file["has_alpha"]) == ("image/png", False)
    assert file["notes"] == ["prompt_truncated: 31 of 45 tokens used"]


def test_the_notes_name_syntax_that_was_drawn_as_words(tmp_path: Path) -> None:
    """After the renderer's, in the answer and in the file."""
    weighted = PARAMS.model_copy(update={"prompt": "(a potion:1.3)"})
    file = OutputDir(tmp_path).write(rendered(1), weighted, JOB, 1)
    cut, syntax = file["notes"]
    assert cut == rendered(1)["notes"][0]
    assert syntax.startswith("prompt_syntax: (a potion:1.3): ")
    assert json.dumps(syntax).encode() in (tmp_path / file["path"]).read_bytes()


# ---- failures ----


def everything_in(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


@contextmanager
def files_at_most(size: int) -> Generator[None]:
    """A real write error: the kernel lets no file of this process grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    """And it works again as soon as there is room."""
    output = OutputDir(tmp_path)
    with files_at_most(100), pytest.raises(StorageFailed) as caught:
        output.write(rendered(), PARAMS, JOB, 1)
    assert caught.value.code == "storage_failed"
    assert str(tmp_path) not in caught.value.detail
    assert everything_in(tmp_path) == []
    assert output.write(rendered(), PARAMS, JOB, 1)["path"] in everything_in(tmp_path)


def test_a_directory_that_cannot_be_used_is_a_storage_failure(tmp_path: Path) -> None:
    """Here a file is in the place of the directory."""
    (tmp_path / "output").write_text("")
    with pytest.raises(StorageFailed, match="output directory"):
        OutputDir(tmp_path / "output").write(rendered(), PARAMS, JOB, 1)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "may not write there"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_the_reason_is_in_plain_words_and_names_no_path(number: int, words: str) -> None:
    """It tells an operator what to do, and a client nothing about the machine."""
    reason = _reason(OSError(number, "Input/output error", "/srv/output/secret.png"))
    assert words in reason
    assert "/srv" not in reason


def test_a_stored_image_is_never_overwritten(tmp_path: Path) -> None:
    """A second write of the same name fails, and the first file is as it was."""
    output = OutputDir(tmp_path)
    path = tmp_path / output.write(rendered(), PARAMS, JOB, 1)["path"]
    before = path.read_bytes()
    with pytest.raises(StorageFailed, match="stored already"):
        output.write(rendered(color=(9, 9, 9)), PARAMS, JOB, 1)
    assert path.read_bytes() == before
    assert len(everything_in(tmp_path)) == 1


def test_two_attempts_write_two_files(tmp_path: Path) -> None:
    """The fence is part of the name."""
    output = OutputDir(tmp_path)
    paths = {output.write(rendered(), PARAMS, JOB, fence)["path"] for fence in (1, 2)}
    assert paths == set(everything_in(tmp_path))


def test_what_is_not_a_png_is_refused(tmp_path: Path) -> None:
    """No file is written whose name says PNG and whose content is something else."""
    image = rendered() | {"data": b"\xff\xd8\xff\xe0"}
    with pytest.raises(ValueError, match="not a PNG"):
        OutputDir(tmp_path).write(image, PARAMS, JOB, 1)  # pyright: ignore[reportArgumentType]
    assert everything_in(tmp_path) == []


# ---- links ----


@pytest.fixture
def linked(tmp_path: Path) -> tuple[OutputDir, Path]:
    """A day's folder with a picture was moved away, and is linked back. And where it is now."""
    output = OutputDir(tmp_path / "output")
    output.write(rendered(), PARAMS, JOB, 1)
    archive = tmp_path / "archive"
    (tmp_path / "output" / DAY).rename(archive)
    (tmp_path / "output" / DAY).symlink_to(archive)
    return output, archive


def test_nothing_is_written_through_a_link(linked: tuple[OutputDir, Path]) -> None:
    """Nor in the place it leads to: what would be written there could not be served."""
    output, archive = linked
    before = everything_in(archive)
    with pytest.raises(StorageFailed, match="a folder on the way is a link"):
        output.write(rendered(), PARAMS, OTHER, 1)
    assert everything_in(archive) == before


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda day: day.symlink_to("nowhere"), "is a link"),
        (lambda day: day.symlink_to("elsewhere"), "is a link"),
        (lambda day: day.write_text(""), "a file is where its folder should be"),
    ],
)
def test_what_is_in_the_place_of_a_days_folder_is_named(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    """A link to nowhere, a link inside the output folder, a file: it is no image that is stored already."""
    (tmp_path / "elsewhere").mkdir()
    make(tmp_path / DAY)
    with pytest.raises(StorageFailed, match=words):
        OutputDir(tmp_path).write(rendered(), PARAMS, JOB, 1)
    assert everything_in(tmp_path / "elsewhere") == []


def test_nothing_is_found_or_removed_through_a_link(linked: tuple[OutputDir, Path]) -> None:
    """What was moved away belongs to whoever moved it. Other days are looked at as before."""
    output, archive = linked
    another = "019b0000-0000-7abc-8def-0123456789ab"
    path = output.write(rendered(), PARAMS, another, 1)["path"]
    assert output.files_of([JOB, another]) == {JOB: [], another: [path]}
    assert output.remove([ArtifactName("game_icon", 7, JOB, 0, 1).path, path]) == 1
    assert len(everything_in(archive)) == 1
    assert files_of(output, another) == []


async def test_the_output_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    """To another disk, as a whole: what is written there is served."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "output").symlink_to("disk")
    output = OutputDir(tmp_path / "output")
    path = output.write(rendered(), PARAMS, JOB, 1)["path"]
    assert everything_in(tmp_path / "disk") == files_of(output, JOB) == [path]
    asked = {"type": "http", "method": "GET", "headers": []}
    response = await OutputFiles(tmp_path / "output").get_response(path, asked)
    assert response.status_code == 200


# ---- finding and removing ----


@pytest.fixture
def mixed(tmp_path: Path) -> OutputDir:
    """The files of two jobs, one of them unfinished, among files of the studio."""
    output = OutputDir(tmp_path)
    for job_id in (JOB, OTHER):
        output.write(rendered(), PARAMS, job_id, 1)
    unfinished = ArtifactName("game_icon", 8, JOB, 1, 1)
    (tmp_path / DAY / f".{unfinished}.tmp").write_bytes(b"\x89PNG")
    (tmp_path / DAY / "notes.txt").write_text("mine")
    (tmp_path / ".gitkeep").write_text("")
    (tmp_path / "2026-01-01").mkdir()
    (tmp_path / "moodboard").mkdir()
    (tmp_path / "moodboard" / str(unfinished)).write_text("mine")
    return output


def test_the_files_of_a_job_are_found_unfinished_ones_too(mixed: OutputDir) -> None:
    """And no file of another job, even one ordered in the same millisecond."""
    assert sorted(files_of(mixed, JOB)) == [
        f"{DAY}/.game_icon_8_{JOB}_1_1.png.tmp",
        f"{DAY}/game_icon_7_{JOB}_0_1.png",
    ]


def test_the_files_of_several_jobs_are_found_at_once(mixed: OutputDir) -> None:
    """No file of the studio is among them."""
    found = mixed.files_of([OTHER, JOB])
    assert {job_id: len(paths) for job_id, paths in found.items()} == {OTHER: 1, JOB: 2}


def test_nothing_is_found_where_nothing_was_written(tmp_path: Path) -> None:
    """At the first start there is no directory yet."""
    assert files_of(OutputDir(tmp_path / "output"), JOB) == []


def test_the_names_of_a_job_are_known_without_looking(tmp_path: Path) -> None:
    """They include all that attempts up to the fence can have written, and nothing of later attempts."""
    output, params = OutputDir(tmp_path), PARAMS.model_copy(update={"n": 2})
    for fence in (1, 2, 3):
        for index in range(2):
            output.write(rendered(index=index), params, JOB, fence)
    unfinished = ArtifactName(params.style_id, params.seed + 1, JOB, 1, 2)
    (tmp_path / DAY / f".{unfinished}.tmp").write_bytes(b"\x89PNG")
    names = output.names_for(JOB, summary_of(params), 2)
    there = files_of(output, JOB)
    assert set(there) - set(names) == {path for path in there if path.endswith("_3.png")}
    assert set(there) & set(names) == {path for path in there if not path.endswith("_3.png")}
    output.remove(names)
    assert len(files_of(output, JOB)) == 2


def test_a_job_of_very_many_attempts_costs_one_look(tmp_path: Path) -> None:
    """A night without a renderer makes thousands of attempts, and hardly a file."""
    output, params = OutputDir(tmp_path), PARAMS.model_copy(update={"n": 16})
    for fence in (1, 6000, 6001):
        output.write(rendered(index=15), params, JOB, fence)
    unfinished = ArtifactName(params.style_id, params.seed, JOB, 0, 4000)
    (tmp_path / DAY / f".{unfinished}.tmp").write_bytes(b"\x89PNG")
    names = output.names_for(JOB, summary_of(params), 6000)
    later = {path for path in files_of(output, JOB) if path.endswith("_6001.png")}
    assert set(names) == set(files_of(output, JOB)) - later
    assert len(names) == 3


def test_remove_is_idempotent(mixed: OutputDir) -> None:
    """A file that does not exist any more counts as removed."""
    paths = files_of(mixed, JOB)
    assert mixed.remove(paths) == mixed.remove(paths) == 2
    assert files_of(mixed, JOB) == []
    assert len(files_of(mixed, OTHER)) == 1


def files_of(output: OutputDir, job_id: str) -> list[str]:
    return output.files_of([job_id])[job_id]


@pytest.mark.parametrize("path", ["../pyproject.toml", f"{DAY}/notes.txt", f"{DAY}/../x", "/etc/x"])
def test_remove_takes_no_other_path(mixed: OutputDir, path: str) -> None:
    """Even if a damaged row names another path, only files of attempts are deleted."""
    with pytest.raises(ValueError, match="not a path of ours"):
        mixed.remove([path])


def test_a_file_that_cannot_be_removed_is_no_error(mixed: OutputDir, tmp_path: Path) -> None:
    """It stays for the next clean-up, and the others are removed."""
    stuck = ArtifactName("game_icon", 9, JOB, 2, 1).path
    (tmp_path / stuck).mkdir()
    assert mixed.remove([stuck, *files_of(mixed, OTHER)]) == 1
    assert files_of(mixed, OTHER) == []


# ---- whether a job may wait for it ----


def test_what_can_be_mended_passes_and_a_taken_name_stays(tmp_path: Path) -> None:
    output = OutputDir(tmp_path / "output")
    (tmp_path / "output").write_text("in the place of the folder")
    with pytest.raises(StorageFailed) as caught:
        output.write(rendered(), PARAMS, JOB, 1)
    assert caught.value.passes
    (tmp_path / "output").unlink()
    with files_at_most(100), pytest.raises(StorageFailed) as caught:
        output.write(rendered(), PARAMS, JOB, 1)
    assert caught.value.passes
    output.write(rendered(), PARAMS, JOB, 1)
    with pytest.raises(StorageFailed) as caught:
        output.write(rendered(), PARAMS, JOB, 1)
    assert not caught.value.passes


def test_a_directory_that_cannot_be_synced_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name might be gone after a power cut; so the job waits, and its name stays free."""
    output = OutputDir(tmp_path)
    output.write(rendered(), PARAMS, OTHER, 1)  # the day's directory is there
    before = everything_in(tmp_path)

    sync = os.fsync

    def broken(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(StorageFailed) as caught:
            output.write(rendered(), PARAMS, JOB, 1)
    assert caught.value.passes
    assert everything_in(tmp_path) == before
    output.write(rendered(), PARAMS, JOB, 1)


def test_a_probe_writes_and_leaves_nothing(tmp_path: Path) -> None:
    output = OutputDir(tmp_path / "output")
    output.probe()
    output.probe()
    assert everything_in(tmp_path) == ["output/.folder-id"]


def test_a_probe_needs_room_for_a_picture(tmp_path: Path) -> None:
    """A disk with some bytes left takes a small file, and then not the next picture."""
    with files_at_most(storage.PROBE_BYTES - 1), pytest.raises(OSError, match="too large"):
        OutputDir(tmp_path).probe()
    assert everything_in(tmp_path) == []


def test_a_probe_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("")
    with pytest.raises(NotADirectoryError):
        OutputDir(tmp_path / "output").probe()


def test_a_probe_needs_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them no picture can be published."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(OSError, match="not permitted"):
        OutputDir(tmp_path).probe()
    assert everything_in(tmp_path) == []


# ---- is it the same folder? ----


def test_a_probe_gives_the_folder_an_id_that_everybody_sees(tmp_path: Path) -> None:
    """Under whatever path; another folder has another one, and one that is away has none."""
    (tmp_path / "link").symlink_to(tmp_path / "output")
    registrys, others = OutputDir(tmp_path / "output"), OutputDir(tmp_path / "other")
    assert not OutputDir(tmp_path / "output").is_folder(registrys.id), "it is not known yet"
    registrys.probe()
    others.probe()
    assert registrys.id != others.id
    assert OutputDir(tmp_path / "link").is_folder(registrys.id)
    assert not others.is_folder(registrys.id)
    assert not OutputDir(tmp_path / "away").is_folder(registrys.id)
    first = registrys.id
    for output in (registrys, OutputDir(tmp_path / "output")):
        output.probe()
        assert output.id == first


def test_a_folder_that_was_emptied_keeps_its_id(tmp_path: Path) -> None:
    """For the registry that knew it: what is under way goes on."""
    output = OutputDir(tmp_path / "output")
    output.probe()
    shutil.rmtree(tmp_path / "output")
    assert not output.is_folder(output.id)
    output.probe()
    assert output.is_folder(output.id)


def test_a_probe_that_fails_says_why_and_the_next_one_is_good(tmp_path: Path) -> None:
    output = OutputDir(tmp_path / "output")
    with files_at_most(100), pytest.raises(OSError, match="large"):
        output.probe()
    assert output.trouble is not None
    assert (str(tmp_path) in output.trouble, output.id) == (False, "")
    output.probe()
    assert output.trouble is None
    assert output.id
    assert all(".probe" not in name for name in everything_in(tmp_path))


def test_what_cannot_link_is_found_out_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems know no second name for a file, and no file of ours could be published there."""

    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    output = OutputDir(tmp_path)
    with pytest.raises(OSError, match="not permitted"):
        output.probe()
    assert output.trouble == "Operation not permitted"
