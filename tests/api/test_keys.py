"""API keys: files of them, new ones, and edits while the service runs."""

from __future__ import annotations

import logging
from itertools import count
from pathlib import Path

import pytest

from serve_app.api.keys import ApiKeys, KeyFile, add_key
from serve_app.errors import ConfigError
from serve_app.secret_files import LOOK_EVERY_S


def test_a_key_file_is_read_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys"
    key = add_key(path, "studio")
    path.write_text("# who may come in\n\n" + path.read_text().strip() + "  # the artists")
    second = add_key(path, "studio")
    keys = ApiKeys.load(path)
    assert (keys.owner_of(key), keys.owner_of(second)) == ("studio", "studio")
    assert keys.owner_of("") is None
    assert key not in path.read_text()


def test_a_new_key_file_is_private(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "studio")
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("line", ["studio", "studio:abc", f"a b:{'0' * 64}", f":{'0' * 64}"])
def test_a_wrong_line_is_named_not_shown(tmp_path: Path, line: str) -> None:
    (tmp_path / "keys").write_text(f"# keys\n{line}\n")
    with pytest.raises(ConfigError) as raised:
        ApiKeys.load(tmp_path / "keys")
    assert "keys:2:" in raised.value.detail
    assert line not in raised.value.detail


@pytest.mark.parametrize("text", [None, "# nobody yet\n"])
def test_a_key_file_without_keys_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "keys").write_text(text)
    with pytest.raises(ConfigError):
        ApiKeys.load(tmp_path / "keys")


@pytest.mark.parametrize("owner", ["", "a:b", "a b", "x" * 65, "a\nb"])
def test_an_owner_fits_its_line(tmp_path: Path, owner: str) -> None:
    with pytest.raises(ConfigError):
        add_key(tmp_path / "keys", owner)
    assert not (tmp_path / "keys").exists()


def test_keys_come_and_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A removed key is refused; a file that cannot be read changes nothing."""
    path = tmp_path / "keys"
    first = add_key(path, "studio")
    looks = count()
    keys = KeyFile(path, clock=lambda: next(looks) * LOOK_EVERY_S)
    second = add_key(path, "artist")
    assert (keys.owner_of(first), keys.owner_of(second)) == ("studio", "artist")
    path.write_text(path.read_text().splitlines()[1] + "\n")
    assert (keys.owner_of(first), keys.owner_of(second)) == (None, "artist")
    path.write_text("half a li")
    assert (keys.owner_of(first), keys.owner_of(second)) == (None, "artist")
    path.unlink()
    assert keys.owner_of(second) == "artist"
    third = add_key(path, "sound")
    path.write_text("half a li\n" + path.read_text())
    with caplog.at_level(logging.ERROR, logger="assets"):
        assert (keys.owner_of(second), keys.owner_of(third)) == (None, "sound")
    assert "half a li" not in caplog.text
    path.write_text("# nobody works here any more\n")
    assert keys.owner_of(third) is None


def test_the_file_is_looked_at_four_times_a_second_at_most(tmp_path: Path) -> None:
    """An edit counts from the first look after it, and no later."""
    path, now = tmp_path / "keys", 0.0
    first = add_key(path, "studio")
    keys = KeyFile(path, clock=lambda: now)
    second = add_key(path, "artist")
    now = LOOK_EVERY_S - 0.01
    assert (keys.owner_of(first), keys.owner_of(second)) == ("studio", None)
    now = LOOK_EVERY_S
    assert keys.owner_of(second) == "artist"
    path.write_text(path.read_text().splitlines()[1] + "\n")
    now += LOOK_EVERY_S - 0.01
    assert keys.owner_of(first) == "studio"
    now += 0.01
    assert keys.owner_of(first) is None
