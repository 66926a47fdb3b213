"""The measurements of a GPU run, on a CPU with tiny networks; every section says what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from serve_app.catalog.families import TRANSFORMERS
from serve_app.catalog.schedulers import DIFFUSION
from tests.gpu.measure import SECTIONS, main


@pytest.fixture(autouse=True)
def _as_it_was() -> Any:
    """One section turns on what others must not find."""
    before = torch.backends.cudnn.benchmark
    yield
    torch.backends.cudnn.benchmark = before


def test_a_dry_run_goes_through_every_section(tmp_path: Path) -> None:
    """Without an error, in its time, and with the bits of the plain pipeline. Compiling is left out: it would
    take half of the time, and `tests/engine/model/test_unet.py` does it."""
    ran = [section.__name__ for section in SECTIONS if section.__name__ != "compiled"]
    assert main(["--out", str(tmp_path), "--minutes", "3", "--dry", "--only", *ran]) == 0
    lines = [json.loads(line) for line in (tmp_path / "measured.jsonl").read_text().splitlines()]
    found: dict[str, list[Any]] = {}
    for line in lines:
        assert "error" not in line, line
        found.setdefault(line["section"], []).append(line)
    assert list(found) == ran
    (identity,) = found["identity"]
    assert (identity["compared"], identity["differ"]) == (len(DIFFUSION) + len(TRANSFORMERS), {})
    assert [line["arm"] for line in found["mixed"]] == ["plain", "engine"]
    assert {line["arm"] for line in found["calls"]} >= {"eager", "channels_last, cudnn.benchmark"}
    assert found["table"][0]["rows"]


def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["--out", str(tmp_path)]) == 2
    assert "--dry" in capsys.readouterr().err
