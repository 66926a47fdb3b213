"""assets keys: add, list, revoke."""

from __future__ import annotations

import hashlib
from itertools import count
from pathlib import Path

import pytest

from serve_app.api.keys import ApiKeys, KeyFile, add_key, list_keys, revoke_keys
from serve_app.secret_files import LOOK_EVERY_S
from tests.cli.harness import run


def test_a_new_key_is_shown_once_and_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys"
    assert run("keys", "add", "studio", "--file", str(path)) == 0
    key = capsys.readouterr().out.strip()
    assert key not in path.read_text()
    assert ApiKeys.load(path).owner_of(key) == "studio"


def test_a_key_that_is_added_is_said_to_count_a_moment_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it does: `KeyFile` looks at the file again. Here each look comes after that time."""
    path = tmp_path / "keys"
    run("keys", "add", "studio", "--file", str(path))
    keys = KeyFile(path, clock=count(step=LOOK_EVERY_S).__next__)
    capsys.readouterr()
    run("keys", "add", "anna", "--file", str(path))
    key, said = capsys.readouterr()
    assert "takes the key a quarter of a second later" in said
    assert keys.owner_of(key.strip()) == "anna"


def test_keys_are_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of an owner, or one; a service forgets them at the next request. Other lines stay."""
    path = tmp_path / "keys"
    made: list[str] = []
    for owner in ("anna", "anna", "ben"):
        run("keys", "add", owner, "--file", str(path))
        made.append(capsys.readouterr().out.strip())
    path.write_text(f"# ours\n{path.read_text()}")
    keys = KeyFile(path, clock=count(step=LOOK_EVERY_S).__next__)
    first = hashlib.sha256(made[0].encode()).hexdigest()[:8]
    assert run("keys", "list", "--file", str(path)) == 0
    listed = capsys.readouterr().out
    assert (listed.count("anna"), listed.count("ben"), first in listed) == (2, 1, True)
    assert run("keys", "revoke", "anna", "--key", first, "--file", str(path)) == 0
    assert [keys.owner_of(key) for key in made] == [None, "anna", "ben"]
    assert run("keys", "revoke", "anna", "--file", str(path)) == 0
    assert [keys.owner_of(key) for key in made] == [None, None, "ben"]
    assert "No key is left" not in capsys.readouterr().err
    assert run("keys", "revoke", "ben", "--file", str(path)) == 0
    assert "No key is left" in capsys.readouterr().err
    assert path.read_text() == "# ours\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("which", [["ben"], ["anna", "--key", "00zz"]])
def test_a_key_that_is_not_there_cannot_be_revoked(tmp_path: Path, which: list[str]) -> None:
    path = tmp_path / "keys"
    run("keys", "add", "anna", "--file", str(path))
    before = path.read_text()
    message = str(run("keys", "revoke", *which, "--file", str(path)))
    assert f"{which[0]!r} has no key" in message
    assert path.read_text() == before


def test_keys_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    for command in (["list"], ["revoke", "anna"]):
        message = str(run("keys", *command, "--file", str(tmp_path / "no")))
        assert message == f"assets: {tmp_path}/no: the API keys cannot be read"


def test_what_a_key_may_do_is_said_shown_and_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["--file", str(tmp_path / "keys")]
    assert run("keys", "add", "anna", "scopes=read", "rate=10/s", *file) == 0
    capsys.readouterr()
    assert run("keys", "list", *file) == 0
    assert "scopes=read rate=10/s" in capsys.readouterr().out
    assert run("keys", "grant", "anna", "waiting_jobs=7", *file) == 0
    ((_, _, grant),) = list_keys(tmp_path / "keys")
    assert grant.words == "waiting_jobs=7"
    message = str(run("keys", "grant", "anna", "waiting_jobs=-7", *file))
    assert message == "assets: waiting_jobs and device_seconds are whole numbers from 0 on"


def test_a_wrong_owner_is_one_clear_line(tmp_path: Path) -> None:
    message = run("keys", "add", "a:b", "--file", str(tmp_path / "keys"))
    assert isinstance(message, str)
    assert message.startswith("assets: an owner is")


def test_a_file_that_others_may_read_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    """As one that a group of operators shares, mounted under another name."""
    real = tmp_path / "real"
    add_key(real, "anna")
    add_key(real, "studio")
    real.chmod(0o640)
    path = tmp_path / "keys"
    path.symlink_to(real)
    (tmp_path / ".real.new").write_text("left by a process that was killed")
    assert revoke_keys(path, "anna") == 1
    assert path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert [owner for owner, _, _ in list_keys(path)] == ["studio"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["keys", "real"]
