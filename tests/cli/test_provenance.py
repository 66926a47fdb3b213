"""assets inspect: without a server, of any file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from serve_app.artifacts.credentials.reading import read_credentials
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


def test_a_certificate_signs_what_is_finished_and_is_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Finished again, the first result is the parent of the second."""
    folder, file = tmp_path / "certificate", tmp_path / "a.png"
    file.write_bytes(with_metadata(rendered(0), PARAMS, JOB, 1))
    assert run("c2pa", "make-cert", str(folder), "--organisation", "Studio Nord") == 0
    sign = ["--sign", str(folder)]
    for name, effect, of in (("b", "flip", "a"), ("c", "trim", "b")):
        out = ["--out", str(tmp_path / f"{name}.png")]
        assert run("finish", str(tmp_path / f"{of}.png"), "--effect", effect, *out, *sign) == 0
    first = read_credentials((tmp_path / "b.png").read_bytes(), "png")
    assert first is not None
    assert first.actions == ("c2pa.created (trainedAlgorithmicMedia)", "c2pa.edited (flip)")
    capsys.readouterr()
    assert run("inspect", str(tmp_path / "c.png"), "--trust", str(folder / "root.pem")) == 0
    said = capsys.readouterr().out
    assert "content credentials  trusted, signed by Studio Nord" in said
    assert "  c2pa.opened\n  c2pa.edited (trim)\n  made of b.png\n" in said
    message = str(run("finish", str(file), "--effect", "trim", "--sign", str(tmp_path / "none")))
    assert "assets c2pa make-cert" in message
    assert not Path("a_finished.png").exists()
