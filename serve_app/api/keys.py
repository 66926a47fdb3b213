"""ApiKeys: the owners of API keys, read from a file of `owner:sha256-of-key` lines.

Knows no HTTP. Keys are 256 random bits, so they cannot be guessed and a plain hash is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from serve_app.errors import ConfigError
from serve_app.secret_files import FINGERPRINT, OWNER, OWNER_IN_WORDS, WatchedFile, write_secret

log = logging.getLogger("assets.api")

_LINE = re.compile(rf"({OWNER.pattern}):([0-9a-f]{{64}})")


class ApiKeys:
    """Owners by the hash of their key. An owner may have several keys."""

    def __init__(self, entries: Sequence[tuple[str, str]]) -> None:
        self._entries = tuple((owner, bytes.fromhex(digest)) for owner, digest in entries)

    @classmethod
    def load(cls, path: Path) -> ApiKeys:
        """Raises ConfigError. Its text names the wrong line but does not show it: it may hold a key."""
        entries, wrong = _read(path)
        if wrong:
            raise ConfigError(f"{path}:{wrong[0]}: expected owner:sha256, 64 hex digits")
        if not entries:
            raise ConfigError(f"{path}: no keys in it; make one with `assets keys add OWNER`")
        return cls(entries)

    @classmethod
    def reload(cls, path: Path) -> ApiKeys:
        """The good lines of the file, even if there are none: a removed key stops working at once, also if
        it was the last one or another line is half edited. Raises ConfigError if no line is good and some
        are wrong, as in a file that is being written."""
        entries, wrong = _read(path)
        if wrong and not entries:
            raise ConfigError(f"{path}: no line of it is owner:sha256, 64 hex digits")
        for number in wrong:
            log.error("%s:%d: expected owner:sha256, 64 hex digits", path, number)
        if not entries:
            log.warning("%s: no keys in it: every request is refused", path)
        return cls(entries)

    def owner_of(self, key: str) -> str | None:
        """None: no such key. It compares with every entry, so its time gives nothing away."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        found: str | None = None
        for owner, known in self._entries:
            if hmac.compare_digest(digest, known):
                found = owner
        return found


def _read(path: Path) -> tuple[list[tuple[str, str]], list[int]]:
    """(owner, digest) of the good lines, and the numbers of the bad ones. Raises ConfigError."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the API keys cannot be read") from error
    entries: list[tuple[str, str]] = []
    wrong: list[int] = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if match := _LINE.fullmatch(text):
            entries.append((match[1], match[2]))
        elif text:
            wrong.append(number)
    return entries, wrong


class KeyFile:
    """The keys of a file. An edit of the file counts within LOOK_EVERY_S."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError, as `ApiKeys.load` does."""
        self._file = WatchedFile(
            path, ApiKeys.load, "keys", log, reload=ApiKeys.reload, clock=clock
        )

    def owner_of(self, key: str) -> str | None:
        return self._file.get().owner_of(key)


def list_keys(path: Path) -> list[tuple[str, str]]:
    """Owner and fingerprint of each key, in the order of the file. Raises ConfigError."""
    entries, wrong = _read(path)
    if wrong:
        raise ConfigError(f"{path}:{wrong[0]}: expected owner:sha256, 64 hex digits")
    return [(owner, digest[:FINGERPRINT]) for owner, digest in entries]


def revoke_keys(path: Path, owner: str, fingerprint: str = "") -> int:
    """Take the keys of `owner` out of the file: all, or those whose fingerprint begins so. Returns how many.
    All other lines stay as they are. Raises ConfigError if there is no such key."""
    _read(path)
    kept: list[str] = []
    lines = path.read_text("utf-8").splitlines(keepends=True)
    for line in lines:
        match = _LINE.fullmatch(line.partition("#")[0].strip())
        if match is None or match[1] != owner or not match[2].startswith(fingerprint):
            kept.append(line)
    if len(kept) == len(lines):
        which = f" that begins with {fingerprint}" if fingerprint else ""
        raise ConfigError(f"{path}: {owner!r} has no key{which}; `assets keys list` shows them")
    write_secret(path, "".join(kept))  # a service must not read half a file
    return len(lines) - len(kept)


def add_key(path: Path, owner: str) -> str:
    """Make a key for `owner`, append its hash to the file, and return the key, which is stored nowhere.
    Raises ConfigError if `owner` does not fit into a line."""
    if not OWNER.fullmatch(owner):
        raise ConfigError(f"an owner is {OWNER_IN_WORDS}")
    key = secrets.token_urlsafe(32)
    line = f"{owner}:{hashlib.sha256(key.encode()).hexdigest()}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        line = "\n" + line  # the last line has no newline yet
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write(line)
    return key
