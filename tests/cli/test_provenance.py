"""assets inspect: without a server, of any file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from serve_app.artifacts.png import with_metadata
from tests.artifacts.inspection import samples
from tests.artifacts.pictures import JOB, PARAMS, rendered
from tests.cli.harness import run


def test_inspect_says_what_made_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(samples.png(parameters=samples.A1111))
    assert run("inspect", str(file)) == 0
    printed = capsys.readouterr().out
    assert "made by  automatic1111" in printed
    assert "seed  965400086" in printed


def test_inspect_gives_an_order_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(with_metadata(rendered(0), PARAMS, JOB, 1))
    assert run("inspect", "--json", str(file)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"]["record"]["job_id"] == JOB
    assert found["order"] == found["recipe"]["record"]["order"]


def test_inspect_says_why_a_file_is_not_read(tmp_path: Path) -> None:
    """Missing, a folder, no picture, and one that is larger than memory should hold: a sparse file."""
    assert "cannot be read: No such file" in str(run("inspect", str(tmp_path / "none.png")))
    assert "cannot be read: Is a directory" in str(run("inspect", str(tmp_path)))
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    assert "no picture that can be read: PNG, WebP, JPEG" in str(
        run("inspect", str(tmp_path / "a.zip"))
    )
    (tmp_path / "big.png").touch()
    os.truncate(tmp_path / "big.png", 2**33)
    assert f"has {2**33} bytes" in str(run("inspect", str(tmp_path / "big.png")))
