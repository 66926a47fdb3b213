"""ApiKeys: the owners of API keys, read from a file of `owner:sha256-of-key` lines, each perhaps with words
that say what the key may do (`grants.py`).

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
from typing import NamedTuple

from serve_app.api.grants import Grant, grant_of
from serve_app.errors import ConfigError
from serve_app.secret_files import FINGERPRINT, OWNER, OWNER_IN_WORDS, WatchedFile, write_secret

log = logging.getLogger("assets.api")

_LINE = re.compile(rf"({OWNER.pattern}):([0-9a-f]{{64}})(?:\s+(\S.*))?")
_EXPECTED = "expected owner:sha256, 64 hex digits"


class KeyLine(NamedTuple):
    """A key of the file, by its hash."""

    owner: str
    digest: str
    grant: Grant


class Wrong(NamedTuple):
    """A line that is none. `why` shows nothing of it: it may hold a key."""

    line: int
    why: str


class ApiKeys:
    """Owners by the hash of their key. An owner may have several keys."""

    def __init__(self, entries: Sequence[KeyLine]) -> None:
        self._entries = tuple((bytes.fromhex(entry.digest), entry) for entry in entries)

    @classmethod
    def load(cls, path: Path) -> ApiKeys:
        """Raises ConfigError. Its text names the wrong line but does not show it: it may hold a key."""
        entries, wrong = _read(path)
        if wrong:
            raise ConfigError(f"{path}:{wrong[0].line}: {wrong[0].why}")
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
        for line, why in wrong:
            log.error("%s:%d: %s", path, line, why)
        if not entries:
            log.warning("%s: no keys in it: every request is refused", path)
        return cls(entries)

    def find(self, key: str) -> KeyLine | None:
        """None: no such key. It compares with every entry, so its time gives nothing away."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        found: KeyLine | None = None
        for known, entry in self._entries:
            if hmac.compare_digest(digest, known):
                found = entry
        return found

    def owner_of(self, key: str) -> str | None:
        """None: no such key."""
        found = self.find(key)
        return None if found is None else found.owner


def _read(path: Path) -> tuple[list[KeyLine], list[Wrong]]:
    """The good lines, and the bad ones: a key whose grant is not understood may do nothing. Raises
    ConfigError."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the API keys cannot be read") from error
    entries: list[KeyLine] = []
    wrong: list[Wrong] = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if match := _LINE.fullmatch(text):
            try:
                entries.append(KeyLine(match[1], match[2], grant_of(match[3] or "")))
            except ValueError as error:
                wrong.append(Wrong(number, str(error)))
        elif text:
            wrong.append(Wrong(number, _EXPECTED))
    return entries, wrong


class KeyFile:
    """The keys of a file. An edit of the file counts within LOOK_EVERY_S."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError, as `ApiKeys.load` does."""
        self._file = WatchedFile(
            path, ApiKeys.load, "keys", log, reload=ApiKeys.reload, clock=clock
        )

    def find(self, key: str) -> KeyLine | None:
        return self._file.get().find(key)

    def owner_of(self, key: str) -> str | None:
        return self._file.get().owner_of(key)


def list_keys(path: Path) -> list[tuple[str, str, Grant]]:
    """Owner and fingerprint of each key and what it may do, in the order of the file. Raises ConfigError."""
    entries, wrong = _read(path)
    if wrong:
        raise ConfigError(f"{path}:{wrong[0].line}: {wrong[0].why}")
    return [(entry.owner, entry.digest[:FINGERPRINT], entry.grant) for entry in entries]


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
        raise ConfigError(_no_such_key(path, owner, fingerprint))
    write_secret(path, "".join(kept))  # a service must not read half a file
    return len(lines) - len(kept)


def add_key(path: Path, owner: str, words: str = "") -> str:
    """Make a key for `owner`, append its hash to the file, and return the key, which is stored nowhere.
    `words`: what it may do; none: read and order, without a limit. Raises ConfigError if one of them does not
    fit into a line."""
    if not OWNER.fullmatch(owner):
        raise ConfigError(f"an owner is {OWNER_IN_WORDS}")
    grant = _granted(words)
    key = secrets.token_urlsafe(32)
    line = f"{owner}:{hashlib.sha256(key.encode()).hexdigest()} {grant.words}".rstrip() + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        line = "\n" + line  # the last line has no newline yet
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write(line)
    return key


def grant_keys(path: Path, owner: str, words: str, fingerprint: str = "") -> int:
    """Let the keys of `owner` do this from now on, and nothing else: all of them, or those whose fingerprint
    begins so. Returns how many. Raises ConfigError if there is none, or a word is wrong."""
    grant, changed = _granted(words), 0
    _read(path)
    lines = path.read_text("utf-8").splitlines(keepends=True)
    for i, line in enumerate(lines):
        text, _, remark = line.rstrip("\r\n").partition("#")
        match = _LINE.fullmatch(text.strip())
        if match and match[1] == owner and match[2].startswith(fingerprint):
            said = f"{owner}:{match[2]} {grant.words}".rstrip()
            lines[i] = f"{said}  #{remark}\n" if remark else f"{said}\n"
            changed += 1
    if not changed:
        raise ConfigError(_no_such_key(path, owner, fingerprint))
    write_secret(path, "".join(lines))
    return changed


def _granted(words: str) -> Grant:
    try:
        return grant_of(words)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _no_such_key(path: Path, owner: str, fingerprint: str) -> str:
    which = f" that begins with {fingerprint}" if fingerprint else ""
    return f"{path}: {owner!r} has no key{which}; `assets keys list` shows them"
