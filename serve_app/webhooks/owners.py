"""The webhooks file: each owner's secrets, and where to call for all of an owner's jobs.

Knows the file; sends nothing. The secrets stand in it as they are, since signing needs them: it is readable
by its user alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from serve_app.errors import ConfigError
from serve_app.hook_events import DEFAULT_EVENTS, EVENTS
from serve_app.secret_files import OWNER, OWNER_IN_WORDS, WatchedFile, write_secret
from serve_app.webhooks.signing import key_of, new_secret

log = logging.getLogger("assets.webhooks")

MOST_SECRETS = 2
"""While a secret is replaced, the old one is valid beside the new one."""
_HEAD = "# Written by `assets webhooks`. It holds secrets.\n"


@dataclass(frozen=True, slots=True)
class HookOwner:
    """`secrets`: the newest first. `url`: called for the jobs that name no webhook; empty: none."""

    secrets: tuple[str, ...]
    url: str = ""
    events: tuple[str, ...] = DEFAULT_EVENTS

    def __repr__(self) -> str:  # logs and tracebacks must not show secrets
        return f"HookOwner({len(self.secrets)} secrets, {self.url!r})"


@dataclass(frozen=True, slots=True)
class HookOwners:
    owners: Mapping[str, HookOwner] = field(default_factory=dict[str, HookOwner])

    @classmethod
    def load(cls, path: Path) -> HookOwners:
        """Raises ConfigError, whose text shows no secret."""
        try:
            read: Any = yaml.safe_load(path.read_text("utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: the webhooks cannot be read") from error
        if not isinstance(read, dict):
            raise ConfigError(f"{path}: expected owners, each with `secrets`")
        return cls({str(name): _owner(path, str(name), said) for name, said in read.items()})

    def save(self, path: Path) -> None:
        said = {
            name: {"secrets": [*owner.secrets]}
            | ({"url": owner.url, "events": [*owner.events]} if owner.url else {})
            for name, owner in sorted(self.owners.items())
        }
        write_secret(path, _HEAD + yaml.safe_dump(said, sort_keys=False))

    def changed(self, name: str, owner: HookOwner | None) -> HookOwners:
        """None: the owner is taken out."""
        others = {key: value for key, value in self.owners.items() if key != name}
        return HookOwners(others if owner is None else {**others, name: owner})

    def of(self, name: str) -> HookOwner:
        """Raises ConfigError."""
        if name not in self.owners:
            raise ConfigError(f"{name!r} has no webhook secret; `assets webhooks add` makes one")
        return self.owners[name]


def _owner(path: Path, name: str, said: Any) -> HookOwner:
    def wrong(why: str) -> ConfigError:
        return ConfigError(f"{path}: {name!r}: {why}")

    if not OWNER.fullmatch(name):
        raise wrong("no such owner")
    if not isinstance(said, dict) or not set(said) <= {"secrets", "url", "events"}:
        raise wrong("expected `secrets`, and perhaps `url` and `events`")
    secrets, url = said.get("secrets"), said.get("url", "")
    events = said.get("events", [*DEFAULT_EVENTS])
    if not isinstance(secrets, list) or not 1 <= len(secrets) <= MOST_SECRETS:
        raise wrong(f"`secrets` are 1 to {MOST_SECRETS}")
    for secret in secrets:
        try:
            key_of(str(secret))
        except ValueError as error:
            raise wrong(str(error)) from None
    if not isinstance(url, str):
        raise wrong("`url` is a text")
    if not isinstance(events, list) or not events or not set(events) <= set(EVENTS):
        raise wrong(f"`events` are some of {', '.join(EVENTS)}")
    return HookOwner(tuple(map(str, secrets)), url, tuple(map(str, events)))


class HookFile:
    """The owners of a file. An edit of the file counts within LOOK_EVERY_S."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError."""
        self._file = WatchedFile(path, HookOwners.load, "webhooks", log, clock=clock)

    def get(self, name: str) -> HookOwner | None:
        """None: this owner has no secret."""
        return self._file.get().owners.get(name)


def load_or_none(path: Path) -> HookOwners:
    """No owner, where there is no file yet. Raises ConfigError."""
    return HookOwners.load(path) if path.exists() else HookOwners()


def add_secret(path: Path, name: str) -> str:
    """A first secret for this owner, which is returned. Raises ConfigError if there is one."""
    if not OWNER.fullmatch(name):
        raise ConfigError(f"an owner is {OWNER_IN_WORDS}")
    owners = load_or_none(path)
    if name in owners.owners:
        raise ConfigError(f"{name!r} has a secret; `assets webhooks rotate` replaces it")
    secret = new_secret()
    owners.changed(name, HookOwner((secret,))).save(path)
    return secret


def rotate_secret(path: Path, name: str) -> str:
    """A new secret before the newest one; an older one goes. Raises ConfigError."""
    owners = HookOwners.load(path)
    owner = owners.of(name)
    secret = new_secret()
    kept = (secret, *owner.secrets)[:MOST_SECRETS]
    owners.changed(name, replace(owner, secrets=kept)).save(path)
    return secret


def retire_secret(path: Path, name: str) -> int:
    """Only the newest secret stays. Returns how many went. Raises ConfigError."""
    owners = HookOwners.load(path)
    owner = owners.of(name)
    owners.changed(name, replace(owner, secrets=owner.secrets[:1])).save(path)
    return len(owner.secrets) - 1


def set_url(path: Path, name: str, url: str, events: tuple[str, ...]) -> None:
    """Where to call for all jobs of this owner; empty: nowhere. Raises ConfigError."""
    owners = HookOwners.load(path)
    owner = replace(owners.of(name), url=url, events=events)
    owners.changed(name, owner).save(path)


def remove_owner(path: Path, name: str) -> None:
    """Raises ConfigError."""
    owners = HookOwners.load(path)
    owners.of(name)
    owners.changed(name, None).save(path)
