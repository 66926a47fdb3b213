"""The webhooks file: secrets that are made, replaced and taken back, and edits while it is used."""

from __future__ import annotations

import base64
from itertools import count
from pathlib import Path

import pytest

from serve_app.errors import ConfigError
from serve_app.secret_files import LOOK_EVERY_S, fingerprint
from serve_app.webhooks.owners import (
    HookFile,
    HookOwner,
    HookOwners,
    add_secret,
    remove_owner,
    retire_secret,
    rotate_secret,
    set_url,
)
from serve_app.webhooks.signing import PREFIX, new_secret


def looking(path: Path) -> HookFile:
    """Each question comes after the time in which an edit counts."""
    return HookFile(path, clock=count(step=LOOK_EVERY_S).__next__)


def test_a_secret_is_replaced_without_a_moment_in_which_none_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "state" / "webhooks.yaml"
    first = add_secret(path, "studio")
    file = looking(path)
    assert file.get("studio") == HookOwner((first,))
    second = rotate_secret(path, "studio")
    assert file.get("studio") == HookOwner((second, first))
    third = rotate_secret(path, "studio")
    assert file.get("studio") == HookOwner((third, second))
    assert retire_secret(path, "studio") == 1
    assert file.get("studio") == HookOwner((third,))
    remove_owner(path, "studio")
    assert file.get("studio") is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_owner_is_called_for_all_jobs(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.yaml"
    secret = add_secret(path, "studio")
    add_secret(path, "anna")
    set_url(path, "studio", "https://build.example/", ("queued", "completed"))
    owners = HookOwners.load(path).owners
    assert owners["studio"] == HookOwner(
        (secret,), "https://build.example/", ("queued", "completed")
    )
    assert owners["anna"].url == ""
    set_url(path, "studio", "", ("completed",))
    assert HookOwners.load(path).owners["studio"].url == ""


def test_what_cannot_be_done_is_said_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.yaml"
    with pytest.raises(ConfigError, match="cannot be read"):
        rotate_secret(path, "studio")
    with pytest.raises(ConfigError, match="an owner is"):
        add_secret(path, "../studio")
    add_secret(path, "studio")
    before = path.read_text()
    with pytest.raises(ConfigError, match="rotate"):
        add_secret(path, "studio")
    for change in (rotate_secret, retire_secret, remove_owner):
        with pytest.raises(ConfigError, match="no webhook secret"):
            change(path, "anna")
    assert path.read_text() == before
    assert [one.name for one in tmp_path.iterdir()] == ["webhooks.yaml"]


SHORT = PREFIX + base64.b64encode(b"x" * 8).decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- studio", "expected owners"),
        ("studio: whsec_x", "expected `secrets`"),
        ("studio: {secrets: []}", "1 to 2"),
        (f"studio: {{secrets: [{SHORT}]}}", "24 to 64 bytes"),
        ("studio: {secrets: [SECRET], events: [ended]}", "events"),
        ("studio: {secrets: [SECRET], urls: x}", "expected `secrets`"),
        ("studio: {secrets: [SECRET, SECRET, SECRET]}", "1 to 2"),
        ("a b: {secrets: [SECRET]}", "no such owner"),
        ("{", "cannot be read"),
    ],
)
def test_a_mistake_in_the_file_is_named_without_a_secret(
    tmp_path: Path, text: str, why: str
) -> None:
    path, secret = tmp_path / "webhooks.yaml", new_secret()
    path.write_text(text.replace("SECRET", secret))
    with pytest.raises(ConfigError, match=why) as refusal:
        HookOwners.load(path)
    assert secret not in str(refusal.value)
    assert SHORT not in str(refusal.value)


def test_a_file_that_is_half_written_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.yaml"
    secret = add_secret(path, "studio")
    file = looking(path)
    whole = path.read_text()
    path.write_text("studio: {secrets: [whsec_")
    assert file.get("studio") == HookOwner((secret,))
    path.write_text(whole.replace("studio", "anna"))
    assert file.get("studio") is None
    assert file.get("anna") == HookOwner((secret,))


def test_no_secret_is_shown_by_accident(tmp_path: Path) -> None:
    secret = add_secret(tmp_path / "webhooks.yaml", "studio")
    owners = HookOwners.load(tmp_path / "webhooks.yaml")
    assert secret not in repr(owners)
    assert len(fingerprint(secret)) == 8
    assert fingerprint(secret) not in secret
