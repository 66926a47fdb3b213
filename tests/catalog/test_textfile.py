"""Text files written by hand: what cannot be read is said, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.catalog.textfile import read_text, shown
from serve_app.config import PROJECT_ROOT
from serve_app.errors import ConfigError


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfname: caf\xc3\xa9\n")
    assert read_text(tmp_path / "a.yaml") == "name: caf\u00e9\n"


def test_a_path_is_shown_as_the_repository_names_it(tmp_path: Path) -> None:
    """Paths outside of the project are shown as they are."""
    assert shown(PROJECT_ROOT / "configs" / "models.yaml") == "configs/models.yaml"
    assert shown(tmp_path / "a.yaml") == str(tmp_path / "a.yaml")


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    """No traceback: missing, a directory, not UTF-8."""
    (tmp_path / "latin.yaml").write_bytes(b"name: a\nby: \xe9")
    for path, says in (
        (tmp_path / "no.yaml", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "latin.yaml", r"latin\.yaml:2: not UTF-8"),
    ):
        with pytest.raises(ConfigError, match=says):
            read_text(path)
