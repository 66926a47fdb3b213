"""Drawn pictures with effects and gates: originals beside results, and redraws in a fixed order of seeds."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve_app.artifacts.folder import OutputDir
from serve_app.artifacts.inspection.inspect import inspect
from serve_app.artifacts.storage import FolderStorage
from serve_app.messages import Outcome, Redraw, Rendered, RenderedImage
from serve_app.params import Finishing, GenerationParams, summary_of
from serve_app.tasks.generate import finish_drawn
from serve_app.tasks.work import Work
from tests.factories import params, rendered_image, ticket

CUT = ({"op": "cutout"}, {"op": "trim", "padding": 1})
BLANK, GOOD = "blank", "good"


def picture(kind: str, seed: int) -> bytes:
    """A green disc on white, or nothing at all; `seed` moves it."""
    pixels = np.full((64, 64, 3), 255, np.uint8)
    if kind == GOOD:
        y, x = np.mgrid[:64, :64]
        pixels[(x - 30 - seed % 4) ** 2 + (y - 32) ** 2 < 18**2] = (20, 120, 40 + seed % 50)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def drawn(order: GenerationParams, kind_of: Callable[[int], str]) -> Rendered:
    """What a renderer returns for these params; `kind_of(seed)`: which picture it draws."""
    images: list[RenderedImage] = []
    for index in range(order.n):
        seed = order.seed_of(index)
        data = picture(kind_of(seed), seed)
        images.append(
            rendered_image(
                index=index, seed=seed, width=64, height=64, data=data, render_seconds=0.5
            )
        )
    return Rendered(images=images, failed=None)


def finishing_order(n: int = 1, **finishing: Any) -> GenerationParams:
    return params(n=n, seed=10, width=64, height=64, finishing=Finishing(**finishing))


def run_all(
    folder: Path, order: GenerationParams, kind_of: Callable[[int], str], fence: int = 1
) -> tuple[Outcome, list[int]]:
    """The whole attempt as the launcher drives it; and every seed, in the order they were drawn."""
    output = OutputDir(folder)
    at = ticket(order, summary=summary_of(order), fence=fence)
    redraw: Redraw | None = None
    seeds: list[int] = []
    while True:
        wanted = order if redraw is None else GenerationParams.model_validate(redraw["params"])
        seeds += [wanted.seed_of(i) for i in range(wanted.n)]
        work = Work(at, output, lambda _: None)
        outcome = finish_drawn(work, drawn(wanted, kind_of), redraw)
        redraw = outcome.get("redraw")
        if redraw is None:
            return outcome, seeds


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.is_file()}


def test_the_original_stays_beside_the_result(tmp_path: Path) -> None:
    """Its file names neither; both explain themselves, and the result says how it was made."""
    order = finishing_order(effects=CUT)
    outcome, _ = run_all(tmp_path, order, lambda _: GOOD)
    assert outcome["kind"] == "drawn"
    (image,) = outcome.get("images", [])
    assert image["has_alpha"]
    assert image["width"] < 64
    assert [file["role"] for file in image.get("files", [])] == ["original", "asset"]
    assert names(tmp_path) == {image["path"], image.get("original")}
    assert any(note.startswith("cutout: ") for note in image["notes"])
    with (
        Image.open(tmp_path / image["path"]) as asset,
        Image.open(tmp_path / (image.get("original") or "")) as original,
    ):
        assert asset.mode == "RGBA"
        assert original.size == (64, 64)
        assert asset.info["parameters"] == original.info["parameters"]
        record = json.loads(asset.info["job"])
        assert [effect["op"] for effect in record["finished"][0]["effects"]] == ["cutout", "trim"]
        assert record["order"]["effects"] == list(CUT)
        assert record["order"]["seed"] == 10


@pytest.mark.parametrize("ground", ["black", "white", "violet"])
def test_no_fringe_is_seen_on_any_ground(tmp_path: Path, ground: str) -> None:
    """Between the disc and the ground nothing is lighter or darker than both."""
    outcome, _ = run_all(tmp_path, finishing_order(effects=CUT), lambda _: GOOD)
    (image,) = outcome.get("images", [])
    with Image.open(tmp_path / image["path"]) as asset:
        on = Image.new("RGBA", asset.size, ground)
        on.alpha_composite(asset.convert("RGBA"))
    seen = np.asarray(on.convert("RGB"), np.int16)
    ends = np.array([seen[0, 0], seen[seen.shape[0] // 2, seen.shape[1] // 2]])
    low, high = ends.min(axis=0) - 12, ends.max(axis=0) + 12
    assert ((seen >= low) & (seen <= high)).all()


def test_redraws_take_the_next_seeds_in_a_fixed_order(tmp_path: Path) -> None:
    """By round, then by index. What passed is not drawn again, and no other file stays."""
    bad = {10, 12, 13, 14}  # the first and the last of three images, and both first redraws
    order = finishing_order(3, effects=CUT, require={"not_blank": True}, redraws=2)
    outcome, seeds = run_all(tmp_path, order, lambda seed: BLANK if seed in bad else GOOD)
    assert seeds == [10, 11, 12, 13, 14, 15, 16]
    images = outcome.get("images", [])
    assert [(image["index"], image["seed"]) for image in images] == [(0, 15), (1, 11), (2, 16)]
    assert [image.get("quality", {})["passed"] for image in images] == [True] * 3
    assert [image.get("quality", {})["redraws"] for image in images] == [2, 0, 2]
    assert outcome.get("run_s") == 1.5
    assert outcome.get("extra_work") == pytest.approx(order.work / 3 * 4)  # of seven drawings
    assert names(tmp_path) == {file["path"] for i in images for file in i.get("files", [])}
    with Image.open(tmp_path / images[0]["path"]) as asset:
        record = json.loads(asset.info["job"])
    assert record["order"]["seed"] == 15
    assert "Seed: 15" in asset.info["parameters"]
    elsewhere = tmp_path / "again"
    again, _ = run_all(elsewhere, order, lambda seed: BLANK if seed in bad else GOOD, fence=2)
    assert [i["seed"] for i in again.get("images", [])] == [15, 11, 16]


def test_what_never_passes_is_kept_or_fails_the_job(tmp_path: Path) -> None:
    gates: dict[str, Any] = {
        "require": {"coverage": {"min": 0.9}},
        "redraws": 1,
        "effects": CUT[:1],
    }
    outcome, seeds = run_all(tmp_path / "keep", finishing_order(**gates), lambda _: GOOD)
    (image,) = outcome.get("images", [])
    assert (image["seed"], seeds) == (10, [10, 11])  # of equals the earlier one
    assert not image.get("quality", {})["passed"]
    assert image.get("quality", {})["redraws"] == 1
    assert any(note.startswith("require_failed: coverage") for note in image["notes"])
    assert len(names(tmp_path / "keep")) == 2
    order = finishing_order(on_fail="fail", **gates)
    outcome, _ = run_all(tmp_path / "fail", order, lambda _: GOOD)
    assert outcome.get("error", {}).get("code") == "quality_failed"
    assert outcome.get("extra_work") == pytest.approx(order.work)
    assert names(tmp_path / "fail") == set()


@pytest.mark.parametrize(("on_fail", "code"), [("keep", None), ("fail", "effect_failed")])
def test_an_effect_that_cannot_be_done_costs_no_drawing(
    tmp_path: Path, on_fail: str, code: str | None
) -> None:
    """The picture is kept as it was drawn, unless the order says that the job is to fail."""
    too_small = ({"op": "pixelate", "width": 200},)
    order = finishing_order(effects=too_small, on_fail=on_fail)
    outcome, _ = run_all(tmp_path, order, lambda _: GOOD)
    if code is not None:
        assert outcome.get("error", {}).get("code") == code
        assert names(tmp_path) == set()
        return
    (image,) = outcome.get("images", [])
    assert any(note.startswith("effect_failed: effect 1") for note in image["notes"])
    assert names(tmp_path) == {image["path"]}


@pytest.mark.parametrize("kind", [BLANK, GOOD])
def test_a_picture_that_is_all_ground_or_has_none(tmp_path: Path, kind: str) -> None:
    """Says so in its notes, and is no failure."""
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    order = finishing_order(effects=CUT)
    rendered = drawn(order, lambda _: BLANK)
    if kind == GOOD:
        rendered["images"][0]["data"] = buffer.getvalue()
    work = Work(ticket(order), OutputDir(tmp_path), lambda _: None)
    outcome = finish_drawn(work, rendered, None)
    (image,) = outcome.get("images", [])
    expected = "cutout_empty" if kind == BLANK else "cutout_uncertain"
    assert any(note.startswith(expected) for note in image["notes"]), image["notes"]


def test_a_webp_is_lossless_and_keeps_its_parameters(tmp_path: Path) -> None:
    outcome, _ = run_all(tmp_path, finishing_order(effects=CUT, format="webp"), lambda _: GOOD)
    plain, _ = run_all(tmp_path / "png", finishing_order(effects=CUT), lambda _: GOOD)
    (image,), (png,) = outcome.get("images", []), plain.get("images", [])
    assert image["content_type"] == "image/webp"
    with (
        Image.open(tmp_path / image["path"]) as asset,
        Image.open(tmp_path / "png" / png["path"]) as same,
    ):
        assert np.array_equal(np.asarray(asset.convert("RGBA")), np.asarray(same))
        comment = asset.getexif().get_ifd(0x8769)[0x9286]
        assert comment[8:].decode("utf-16-be") == same.info["parameters"]
        record = json.loads(same.info["job"])
    found = inspect((tmp_path / image["path"]).read_bytes(), 2**20)
    assert found.recipe is not None
    notes = [one["finished"][0]["notes"] for one in (found.recipe.record, record)]
    assert notes[0] == notes[1]
    assert found.source_type == "trainedAlgorithmicMedia"


def test_two_alike_are_drawn_again(tmp_path: Path) -> None:
    """`unique` compares with the other images of the job, whichever attempt at them is kept."""
    order = finishing_order(2, effects=CUT, require={"unique": True}, redraws=1)
    outcome, seeds = run_all(tmp_path, order, lambda _: GOOD)
    quality = [image.get("quality", {}) for image in outcome.get("images", [])]
    assert [found["passed"] for found in quality] == [True, False]
    assert "unique" in quality[1]["failures"]
    assert seeds == [10, 11, 12]


@pytest.mark.parametrize("role", ["original", "asset", "normal_map"])
def test_a_disk_that_fills_up_between_original_and_asset_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """The job waits for room; whichever file was the first that did not fit."""
    put = FolderStorage.put

    def full(self: FolderStorage, path: str, data: bytes) -> None:
        final = path.partition("/")[2]
        if (final.rpartition("-")[2] if final.count("-") > 4 else "original.png") == f"{role}.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, path, data)

    monkeypatch.setattr(FolderStorage, "put", full)
    order = finishing_order(2, effects=({"op": "normal_map"},))
    outcome, _ = run_all(tmp_path, order, lambda _: GOOD)
    assert (outcome["kind"], outcome["reason"]) == (
        "full",
        "The image could not be written to the output directory: the disk is full.",
    )
    assert names(tmp_path) == set()
