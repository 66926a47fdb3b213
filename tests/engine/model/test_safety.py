"""The checkpoint's own safety checker: it is asked about each image, and a flagged image fails its job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serve_app.engine.model.loading import load
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.request import Request
from serve_app.errors import Flagged, ModelError
from tests.engine import tiny
from tests.engine.harness import kinds, render, running
from tests.factories import params

PIXELS = np.zeros((tiny.SIZE, tiny.SIZE, 3), np.uint8)


def save(folder: Path, *, flags: bool) -> Path:
    """A whole checkpoint with a checker, as `save_pretrained` writes it."""
    pipe = tiny.pipeline()
    pipe.register_modules(
        safety_checker=tiny.safety_checker(flags=flags), feature_extractor=tiny.feature_extractor()
    )
    return tiny.save(pipe, folder / "tiny")


@pytest.mark.parametrize("flags", [True, False])
async def test_a_flagged_image_fails_its_job_with_a_code(tmp_path: Path, flags: bool) -> None:
    """No reader gets a flagged image; other images are delivered."""
    save(tmp_path, flags=flags)
    runner = ModelRunner(load(tiny.spec(), tmp_path, device="cpu"))
    async with running(runner) as engine:
        events = await render(engine)
    assert ("image" in kinds(events)) is not flags
    if flags:
        assert (events[-1]["code"], events[-1]["retryable"]) == ("safety_flagged", False)


def test_the_check_can_be_turned_off(tmp_path: Path) -> None:
    """`safety_check: false` in models.yaml: the checker is not even loaded."""
    save(tmp_path, flags=True)
    assert load(tiny.spec(safety_check=False), tmp_path, device="cpu").safety_checker is None
    runner = ModelRunner(load(tiny.spec(), tmp_path, device="cpu"))
    request = Request(params(), index=0, drawing=0, guided=False)
    with pytest.raises(Flagged):
        runner.check(request, PIXELS)


def test_a_checker_without_its_image_processor_is_refused(tmp_path: Path) -> None:
    """A checkpoint whose check cannot be made is not served without it."""
    folder = save(tmp_path, flags=False)
    for file in (folder / "feature_extractor").iterdir():
        file.unlink()
    (folder / "feature_extractor").rmdir()
    with pytest.raises(ModelError, match="feature_extractor"):
        load(tiny.spec(), tmp_path, device="cpu")
