"""A ZIP that is taken away while it is written is one that other programs read."""

from __future__ import annotations

import io
import subprocess
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from serve_app.delivery.zip_stream import ZipStream

AT = datetime(2026, 11, 27, 20, 15, tzinfo=UTC)


def streamed(members: dict[str, list[bytes]]) -> bytes:
    zipped, whole = ZipStream(), b""
    for path, pieces in members.items():
        with zipped.member(path, AT) as file:
            for piece in pieces:
                file.write(piece)
                whole += zipped.take()
    zipped.close()
    return whole + zipped.take()


def test_other_programs_read_it(tmp_path: Path) -> None:
    members = {"a.png": [b"x" * 100_000, b"y"], "folder/b.json": [b"{}"], "empty.png": [b""]}
    data = streamed(members)
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        assert {name: found.read(name) for name in found.namelist()} == {
            path: b"".join(pieces) for path, pieces in members.items()
        }
    (tmp_path / "a.zip").write_bytes(data)
    told = subprocess.run(
        ["unzip", "-t", tmp_path / "a.zip"], capture_output=True, text=True, check=True
    )
    assert "No errors detected" in told.stdout


def test_no_more_than_what_was_written_waits() -> None:
    zipped = ZipStream()
    with zipped.member("a.png", AT) as file:
        for _ in range(100):
            file.write(b"x" * 10_000)
            assert 10_000 <= zipped.waiting < 11_000
            zipped.take()


def test_more_members_than_an_old_zip_may_have() -> None:
    """65,535: then their list is one of ZIP64."""
    zipped = ZipStream()
    for n in range(65_600):
        with zipped.member(f"{n}.png", AT) as file:
            file.write(b"x")
    zipped.close()
    with zipfile.ZipFile(io.BytesIO(zipped.take())) as found:
        assert len(found.namelist()) == 65_600
        assert found.read("65599.png") == b"x"
