"""Directory: keeps a database on a disk of this machine, locked for one process.

Knows files, their permissions and the lock. Does not know what the database holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO, Protocol

from serve_app.errors import StoreHeld

FILES = ("registry.lock", "jobs.db", "jobs.db-wal", "jobs.db-shm")
"""All that lies in the directory. SQLite gives the last two the permissions of the second."""


class Keeper(Protocol):
    """What keeps a database. There is a SQLite file in any case. `durable`: a commit in that file is the
    last word; else it must be kept elsewhere before anybody hears of it, and `keep` does that."""

    durable: bool
    path: Path  # of the file; another one after a `keep` that failed
    copies: Path  # the folder for the copy that is made before an upgrade

    def ready(self) -> None:
        """Raises sqlite3.Error if what is committed now could not be kept."""
        ...

    def keep(self, db: sqlite3.Connection) -> None:
        """Keep what was committed by `db` since the last call. Raises sqlite3.Error; then `path` is a file
        without it, and `db` is of no use any more."""
        ...

    def take_sent(self) -> int:
        """Bytes that `keep` sent elsewhere since the last call."""
        ...

    def release(self) -> None:
        """The database is closed: somebody else may have it."""
        ...


class Directory:
    """A folder with `jobs.db`. Locked for this process until `release` or its death."""

    durable = True

    def __init__(self, folder: Path, *, lock_timeout_s: float = 10.0) -> None:
        """Raises StoreHeld, naming the holder, if another process has the folder."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in FILES:
            _keep_to_oneself(folder / name)
        self.path, self.copies = folder / "jobs.db", folder
        self._lock = _lock(folder / "registry.lock", lock_timeout_s)

    def ready(self) -> None: ...

    def keep(self, db: sqlite3.Connection) -> None: ...

    def take_sent(self) -> int:
        return 0

    def release(self) -> None:
        self._lock.close()


def holder_of(directory: Path) -> str | None:
    """Who has the store open, in words; None: nobody. Takes nothing from anybody."""
    try:
        with (directory / "registry.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return (directory / "registry.lock").read_text().strip() or "an unknown process"
    return None


@contextlib.contextmanager
def held(directory: Path) -> Generator[None]:
    """Nobody opens the store in `directory` meanwhile, which is made if it is missing. Raises StoreHeld."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _keep_to_oneself(directory / "registry.lock")
    with _lock(directory / "registry.lock", 2.0):
        yield


def _keep_to_oneself(path: Path) -> None:
    """The rows hold prompts, so no other user may read them. The directory's own permissions are changed by
    nobody here: it may be an operator's."""
    if path.suffix in (".lock", ".db"):
        path.touch(mode=0o600)
    with contextlib.suppress(FileNotFoundError):
        path.chmod(0o600)


def _lock(path: Path, timeout_s: float) -> IO[str]:
    """An exclusive lock that the kernel releases when this process dies, however it dies."""
    file = path.open("a+")
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # flock has no timed wait. The lock of a killed process is free within milliseconds.
            if time.monotonic() > give_up:
                file.seek(0)
                holder = file.read().strip() or "an unknown process"
                file.close()
                raise StoreHeld(f"the job store is held by {holder}") from None
            time.sleep(0.05)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
    file.flush()
    return file
