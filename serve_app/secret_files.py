"""Files that hold a secret for each owner: edits are noticed, they are written whole, one user reads them.

Knows what an owner may be called; knows neither keys nor webhooks.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from serve_app.errors import ConfigError

OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
OWNER_IN_WORDS = "1 to 64 of A-Z a-z 0-9 _ . - that start with a letter or a digit"
FINGERPRINT = (
    8  # hex digits of a hash: enough to tell an owner's secrets apart, nothing to use them with
)
LOOK_EVERY_S = 0.25
"""To look at a file costs a system call, and much more where the file lies on another host."""

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """What `load` makes of a file. An edit counts within LOOK_EVERY_S, unless it cannot be read.

    `what`: what the file holds, for the log. `reload`: `load`, of a file that was edited."""

    def __init__(
        self,
        path: Path,
        load: Callable[[Path], T],
        what: str,
        log: logging.Logger,
        *,
        reload: Callable[[Path], T] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigError, as `load` does."""
        self._path, self._reload, self._clock = path, reload or load, clock
        self._what, self._log = what, log
        self._looked_at = clock()
        self._stamp = _stamp(path)
        self._content = load(path)

    def get(self) -> T:
        if self._clock() - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = self._clock()
            self._look()
        return self._content

    def _look(self) -> None:
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._content = self._reload(self._path)
            except ConfigError as error:  # it may be half written: read it again at the next look
                self._stamp = None
                self._log.error("the previous %s stay in force: %s", self._what, error.detail)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Inode, size and time of change (ns): they tell whether the file was edited. None: no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def write_secret(path: Path, text: str) -> None:
    """Whole or not at all. A new file can be read by this user alone; one that is there keeps its mode, and
    a link stays a link."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    new = target.with_name(f".{target.name}.new")
    new.unlink(missing_ok=True)  # of a process that was killed
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)
    new.replace(target)


def fingerprint(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()[:FINGERPRINT]
