"""A job's task: it writes into the folder of the registry, or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from serve_app.artifacts.folder import OutputDir
from serve_app.cluster import job_task
from serve_app.messages import OutputFolder, Rendered, RenderFailed, WeightFiles
from serve_app.params import Finishing
from tests.artifacts.pictures import rendered
from tests.factories import params, rendered_image, ticket
from tests.finishing.sprites import noise_ground
from tests.finishing.test_network import redness

DRAWN = Rendered(images=[rendered()], failed=None)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> OutputFolder:
    """As the registry sees it."""
    output = OutputDir(tmp_path / "shared")
    output.probe()
    return OutputFolder(path=output.path, id=output.id)


def test_it_writes_where_the_registry_looks(folder: OutputFolder) -> None:
    outcome = job_task.run(ticket(), DRAWN, folder, "assets")
    assert outcome["kind"] == "drawn"
    assert "images" in outcome
    assert (Path(folder["path"]) / outcome["images"][0]["path"]).is_file()


def test_on_a_node_without_that_folder_nothing_is_written(
    folder: OutputFolder, tmp_path: Path
) -> None:
    """The job waits: its file would be published, and found by nobody."""
    OutputDir(tmp_path / "own").probe()
    for path in ("own", "nothing"):
        elsewhere = OutputFolder(path=str(tmp_path / path), id=folder["id"])
        assert job_task.run(ticket(), DRAWN, elsewhere, "assets")["kind"] == "full"
    unseen = OutputFolder(path=folder["path"], id="")
    assert job_task.run(ticket(), DRAWN, unseen, "assets")["kind"] == "full"
    assert list(tmp_path.rglob("*.png")) == []


def test_what_could_not_be_drawn_needs_no_folder(tmp_path: Path) -> None:
    failed = RenderFailed(kind="failed", code="flagged", title="t", detail="d", retryable=False)
    outcome = job_task.run(
        ticket(),
        Rendered(images=[], failed=failed),
        OutputFolder(path=str(tmp_path), id=""),
        "assets",
    )
    assert outcome["kind"] == "failed"


def test_effects_find_the_weights_that_the_settings_name(
    folder: OutputFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The matting network cuts what no matte can; without it the picture stays as it is."""
    monkeypatch.setattr(job_task, "call_registry", lambda *_: None)
    made = noise_ground()
    data = io.BytesIO()
    made.drawn.to_image().convert("RGB").save(data, "PNG")
    picture = rendered_image(data=data.getvalue(), width=96, height=96)
    order = params(finishing=Finishing(effects=({"op": "cutout"},)))
    weights = WeightFiles(matting=str(redness(tmp_path / "red.onnx")), upscalers=None)
    notes: list[str] = []
    with_weights: OutputFolder = {**folder, "weights": weights}
    for fence, given in enumerate((folder, with_weights), 1):
        outcome = job_task.run(
            ticket(order, fence=fence), Rendered(images=[picture], failed=None), given, "assets"
        )
        notes += outcome.get("images", [])[0]["notes"]
    assert [note.partition(":")[0] for note in notes] == ["cutout_uncertain", "cutout"]
    assert "by the network" in notes[-1]
