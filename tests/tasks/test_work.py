"""What a body may do, and what each of its ends means for the job: all of its files, or none."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path
from typing import Any

import pytest

from serve_app.artifacts.folder import OutputDir, output_at
from serve_app.artifacts.storage import FolderStorage
from serve_app.errors import ServiceError, SourceMissing
from serve_app.finishing.picture import EffectFailed
from serve_app.messages import ImageFile
from serve_app.tasks.work import Work, run_body
from tests.bucket import Bucket
from tests.factories import image_file, summary, ticket


@pytest.fixture(name="work")
def _work(tmp_path: Path) -> Work:
    told: list[dict[str, Any]] = []
    order = ticket(summary=summary(kind="derive", style_id="icon"))
    return Work(order, OutputDir(tmp_path), told.append)


def names(work: Work) -> list[str]:
    return sorted(path.name for path in Path(work.output.path).rglob("*.*") if path.is_file())


def test_what_a_body_stores_is_found_by_job_and_role(work: Work) -> None:
    def body(work: Work) -> list[ImageFile]:
        main = work.put(0, 7, "asset", b"pixels")
        extra = work.put(0, 7, "atlas", b"{}", "json")
        return [image_file(path=main["path"], files=[main, extra])]

    outcome = run_body(body, work)
    assert outcome["kind"] == "drawn"
    job = work.ticket["job_id"]
    assert names(work) == [f"icon_7_{job}_0_1-asset.png", f"icon_7_{job}_0_1-atlas.json"]
    assert "images" in outcome
    atlas = outcome["images"][0].get("files", [])[1]
    assert (atlas["role"], atlas["content_type"], atlas["size_bytes"]) == (
        "atlas", "application/json", 2,
    )  # fmt: skip
    assert sorted(work.output.files_of([job])[job]) == sorted(work.stored)


@pytest.mark.parametrize(
    ("error", "code"),
    [(EffectFailed("too small"), "effect_failed"), (SourceMissing(), "source_missing")],
)
def test_an_error_on_purpose_ends_the_job_without_files(
    work: Work, error: ServiceError, code: str
) -> None:
    def body(work: Work) -> list[ImageFile]:
        work.put(0, 7, "asset", b"pixels")
        raise error

    outcome = run_body(body, work)
    assert outcome["kind"] == "failed"
    assert outcome.get("error", {}).get("code") == code
    assert names(work) == []


def test_a_bug_ends_the_job_and_tells_no_path(work: Work) -> None:
    def body(work: Work) -> list[ImageFile]:
        work.put(0, 7, "asset", b"pixels")
        raise KeyError("/secret")

    outcome = run_body(body, work)
    assert outcome["kind"] == "failed"
    assert "secret" not in str(outcome)
    assert names(work) == []


def test_a_full_disk_is_waited_for(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that fills up between two files of the job."""
    put = FolderStorage.put

    def full_at_the_second(self: FolderStorage, path: str, data: bytes) -> None:
        if "normal_map" in path:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, path, data)

    monkeypatch.setattr(FolderStorage, "put", full_at_the_second)

    def body(work: Work) -> list[ImageFile]:
        work.put(0, 7, "asset", b"pixels")
        work.put(0, 7, "normal_map", b"pixels")
        raise AssertionError("not reached")

    assert run_body(body, work)["kind"] == "full"
    assert names(work) == []


def test_a_source_that_cannot_be_read_now_is_waited_for(work: Work, bucket: Bucket) -> None:
    """It is not gone: a store that is away comes back."""
    away = dataclasses.replace(work, output=output_at(bucket.at("sources")))
    stored = away.put(0, 7, "asset", b"pixels")

    def body(work: Work) -> list[ImageFile]:
        work.read(stored["path"], stored["sha256"])
        work.read_own(stored["path"])
        return []

    assert run_body(body, away)["kind"] == "drawn"
    bucket.says = 503
    outcome = run_body(body, away)
    assert (outcome["kind"], outcome.get("unstored")) == ("full", True)
    bucket.says = None
    away.output.remove([stored["path"]])
    assert run_body(body, away).get("error", {}).get("code") == "source_missing"


def test_a_source_is_read_as_it_was_published_or_not_at_all(work: Work, tmp_path: Path) -> None:
    stored = work.put(0, 7, "asset", b"pixels")
    assert work.read(stored["path"], stored["sha256"]) == b"pixels"
    with pytest.raises(SourceMissing, match="not what it was"):
        work.read(stored["path"], "0" * 64)
    file = tmp_path / stored["path"]
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    with pytest.raises(SourceMissing):
        work.read(stored["path"], stored["sha256"])
    file.symlink_to(elsewhere)
    with pytest.raises(SourceMissing):
        work.read(stored["path"], stored["sha256"])
    with pytest.raises(ValueError, match="not a path of ours"):
        work.read("../elsewhere", "")
