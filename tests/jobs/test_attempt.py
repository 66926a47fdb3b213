"""store_images: files and an outcome, or an outcome that says why not and no file."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from serve_app.artifacts.folder import OutputDir
from serve_app.artifacts.names import day_of
from serve_app.artifacts.storage import FolderStorage
from serve_app.jobs.attempt import store_images
from serve_app.messages import Rendered, RenderedImage, RenderFailed
from tests.factories import JOB_ID, params, ticket


def image(index: int) -> RenderedImage:
    data = BytesIO()
    Image.new("RGB", (64, 64), (index, 0, 0)).save(data, "PNG")
    return RenderedImage(
        kind="image",
        index=index,
        seed=1 + index,
        width=64,
        height=64,
        has_alpha=False,
        data=data.getvalue(),
        render_seconds=0.1 + index,
        made_by={"device": "cpu"},
        notes=[],
    )


def drawn(*indices: int) -> Rendered:
    return Rendered(images=[image(index) for index in indices], failed=None)


def failed(code: str, *, retryable: bool = False) -> Rendered:
    event = RenderFailed(kind="failed", code=code, title="t", detail="d", retryable=retryable)
    return Rendered(images=[], failed=event)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_images_are_stored_by_index_under_the_names_the_order_implies(tmp_path: Path) -> None:
    outcome = store_images(ticket(params(n=2)), drawn(1, 0), OutputDir(tmp_path))
    assert outcome["kind"] == "drawn"
    assert "images" in outcome
    assert [stored["index"] for stored in outcome["images"]] == [0, 1]
    assert files(tmp_path) == sorted(stored["path"] for stored in outcome["images"])
    assert outcome["images"][1]["path"].endswith(f"/none_2_{JOB_ID}_1_1.png")
    assert outcome.get("run_s") == 1.1


@pytest.mark.parametrize(
    ("code", "retryable", "kind"),
    [
        ("non_finite", False, "failed"),
        ("out_of_memory", True, "refused"),
        ("model_changed", True, "outdated"),
        ("engine_stopped", True, "died"),
        ("dropped", False, "stopped"),
    ],
)
def test_what_is_not_drawn_has_a_kind_and_leaves_no_file(
    tmp_path: Path, code: str, retryable: bool, kind: str
) -> None:
    outcome = store_images(ticket(), failed(code, retryable=retryable), OutputDir(tmp_path))
    assert outcome["kind"] == kind
    if kind in ("failed", "refused"):
        assert outcome.get("error", {}).get("code") == code
    assert files(tmp_path) == []


def test_a_folder_that_takes_nothing_lets_the_job_wait(tmp_path: Path) -> None:
    """A file stands where the day's folder must be: no permission check can be skipped by root."""
    (tmp_path / day_of(JOB_ID)).write_text("in the way")
    outcome = store_images(ticket(), drawn(0), OutputDir(tmp_path))
    assert outcome["kind"] == "full"
    assert str(tmp_path) not in outcome["reason"]


def test_a_disk_that_fills_in_between_leaves_no_part_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = OutputDir(tmp_path)
    put, count = FolderStorage.put, iter((1, 2))

    def second_fails(self: FolderStorage, path: str, data: bytes) -> None:
        if next(count) == 2:
            raise OSError(28, "No space left on device")
        put(self, path, data)

    monkeypatch.setattr(FolderStorage, "put", second_fails)
    assert store_images(ticket(params(n=2)), drawn(0, 1), output)["kind"] == "full"
    assert files(tmp_path) == []


def test_a_name_that_is_taken_fails_the_job_for_good(tmp_path: Path) -> None:
    """A restored backup repeats a fence: waiting would not help."""
    output = OutputDir(tmp_path)
    assert store_images(ticket(), drawn(0), output)["kind"] == "drawn"
    outcome = store_images(ticket(), drawn(0), output)
    assert (outcome["kind"], outcome.get("error", {}).get("code")) == ("failed", "storage_failed")
    assert len(files(tmp_path)) == 1, "the first one stays"


def test_a_bug_fails_the_job_and_tells_nothing_of_the_inside(tmp_path: Path) -> None:
    """An engine that forgets an image is nobody's plan."""
    outcome = store_images(ticket(params(n=3)), drawn(0), OutputDir(tmp_path))
    assert (outcome["kind"], outcome.get("error", {}).get("code")) == ("failed", "internal")
    assert files(tmp_path) == []


def test_an_order_of_newer_code_fails_and_is_not_tried_for_ever(tmp_path: Path) -> None:
    newer = ticket(params={**params().model_dump(), "invented": 1})
    outcome = store_images(newer, drawn(0), OutputDir(tmp_path))
    assert (outcome["kind"], outcome.get("error", {}).get("code")) == ("failed", "internal")
