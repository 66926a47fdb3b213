"""The composition root refuses what cannot work, before anything is deployed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ray.serve.exceptions import RayServeException

from serve_app.app import build, renderer_options
from serve_app.cluster.checks import CannotServe, servable
from serve_app.config import PROJECT_ROOT, Settings
from serve_app.tools.lint import lint_serve_config
from tests.bucket import Bucket


def settings(tmp_path: Path, old: str, new: str, file: str) -> Settings:
    """The project's own files with one change in one of them."""
    shutil.copytree(PROJECT_ROOT / "configs", tmp_path / "configs")
    path = tmp_path / "configs" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return Settings(
        models_file=tmp_path / "configs/models.yaml",
        styles_file=tmp_path / "configs/styles.yaml",
        num_gpus=0,
    )


def test_a_missing_model_is_named_at_once(tmp_path: Path) -> None:
    args = settings(tmp_path, "path: serve_app/starter/weights", "path: nowhere", "models.yaml")
    with pytest.raises(CannotServe, match="nowhere is not a directory"):
        build(args)


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(CannotServe, match="starter"):
        build(Settings(model="sdx", num_gpus=0))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [("models.yaml", "native_size:", "native_sise:"), ("styles.yaml", "title:", "tittle:")],
)
def test_a_typo_is_refused_with_its_line(tmp_path: Path, file: str, old: str, new: str) -> None:
    with pytest.raises(CannotServe, match=rf"{file}:\d+"):
        build(settings(tmp_path, old, new, file))


def test_a_wrong_argument_is_named_with_what_is_allowed(tmp_path: Path) -> None:
    """All of them at once. Of this kind of exception, Serve tells the words and no traceback."""
    with pytest.raises(CannotServe) as refused:
        build({"slotss": 3, "max_replicas": "many", "models_file": str(tmp_path)})
    assert isinstance(refused.value, RayServeException)
    lines = str(refused.value).splitlines()
    assert len(lines) == 2
    assert "args.slotss: unknown key; did you mean 'slots'?" in lines[0]
    assert lines[1].startswith("args.max_replicas: Input should be a valid integer")


def test_a_bucket_that_is_not_there_is_refused(bucket: Bucket) -> None:
    """Before anything is deployed. One that is away for now is not."""
    with pytest.raises(CannotServe, match=r"output s3://nobodys/art: there is no such bucket"):
        build({"output": bucket.at("art", "nobodys")})
    bucket.says = 503
    assert servable({"output": bucket.address}).output == bucket.address


def test_the_renderer_scales_by_jobs_and_keeps_room_for_two_more() -> None:
    settings = Settings(slots=4, min_replicas=0, max_replicas=8, num_gpus=1)
    options = renderer_options("icons", ["tiny"], settings)
    assert options["name"] == "Renderer-icons"
    assert options["max_ongoing_requests"] == 6
    assert options["autoscaling_config"]["target_ongoing_requests"] == 4
    assert options["autoscaling_config"]["min_replicas"] == 0
    assert options["ray_actor_options"]["num_gpus"] == 1
    several = renderer_options("icons", ["tiny", "big"], settings)
    assert several["max_ongoing_requests"] == 10, "each model has slots of its own"


@pytest.mark.parametrize("name", ["serve_config.yaml", "configs/serve.gpu.yaml"])
def test_the_projects_own_configs_have_no_unknown_key(name: str) -> None:
    lint_serve_config(PROJECT_ROOT / name, Settings)
