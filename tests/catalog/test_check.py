"""check_files: everything that is wrong with models and styles, in one error."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.catalog.check import check_files
from serve_app.config import PROJECT_ROOT, Settings
from serve_app.errors import ConfigError

MODELS = """\
default: tiny
models:
  tiny: {family: sd, path: serve_app/starter/weights, native_size: [128, 128], steps: 9,
    guidance_scale: 4, schedulers: [ddim]}
  far: {family: sd, path: nowhere, native_size: [128, 128], steps: 9,
    guidance_scale: 4, schedulers: [ddim]}
"""
STYLES = 'styles: {icon: {template: "{prompt}"}}\n'


def settings(folder: Path, models: str, styles: str, model: str | None = None) -> Settings:
    files = {"models_file": folder / "models.yaml", "styles_file": folder / "styles.yaml"}
    for path, text in zip(files.values(), (models, styles), strict=True):
        path.write_text(text)
    return Settings.model_validate({**files, "model": model})


def test_good_files_pass(tmp_path: Path) -> None:
    """Weights of a model that is not the active one need not be there."""
    check_files(Settings())
    check_files(settings(tmp_path, MODELS, STYLES))


@pytest.mark.parametrize(
    ("models", "styles", "model", "said"),
    [
        (MODELS, STYLES, "far", ["model 'far': nowhere is not a directory"]),
        (MODELS, STYLES, "tyni", ["model 'tyni' is not in the models file: tiny, far"]),
        (MODELS.replace("9,", "x,"), "stiles: {}\n", None, ["models.yaml:3", "models.yaml:5",
         "styles.yaml:1: stiles", "styles.yaml:1: styles"]),
        (MODELS, STYLES.replace("{prompt}", "x"), "far", ["model 'far'", "styles.yaml:1"]),
    ],
)  # fmt: skip
def test_every_mistake_is_in_one_error(
    tmp_path: Path, models: str, styles: str, model: str | None, said: list[str]
) -> None:
    """Styles are read even if the models are wrong."""
    with pytest.raises(ConfigError) as caught:
        check_files(settings(tmp_path, models, styles, model))
    lines = caught.value.detail.replace(f"{tmp_path}/", "").splitlines()
    found = [next((start for start in said if line.startswith(start)), line) for line in lines]
    assert sorted(set(found)) == sorted(said)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"configs/no\.yaml: cannot be read"):
        check_files(Settings(styles_file=PROJECT_ROOT / "configs/no.yaml"))
