"""Storage: a place where files are kept, as those see it who write, read and remove them. FolderStorage: a
folder of a disk.

Knows paths like `folder/name`, and bytes; nothing of what they mean, nor whose they are.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from serve_app.artifacts.disk import opened, put_once, to_read
from serve_app.artifacts.identity import identify, identity_of
from serve_app.object_address import ObjectAddress

log = logging.getLogger("assets.artifacts")

PROBE_BYTES = 4 * 2**20
"""A disk with room for less will not take the next image."""


class Stat(NamedTuple):
    size: int  # bytes
    modified: float  # unix seconds


class Storage(Protocol):
    """A path is a folder, `/` and a name. A file is whole or not there, and what was put stays as it is.

    Every method may raise OSError, whose `strerror` is fit for clients. FileNotFoundError alone means that
    there is no such file; whatever else is wrong may be mended, and the same call made again.
    """

    @property
    def address(self) -> str:
        """What `storage_at` makes this storage of, on any node."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """A new file, which is safe when this returns. Raises FileExistsError if the name is taken by other
        bytes."""
        ...

    def read(self, path: str, first: int = 0, count: int | None = None) -> bytes:
        """`count` bytes from `first` on, fewer at the end of the file; None: all the rest."""
        ...

    def open(self, path: str) -> BinaryIO:
        """To be read in pieces and closed."""
        ...

    def names(self, folder: str) -> list[str]:
        """Of what is in a folder; none if there is no such folder."""
        ...

    def stats(self, folder: str, names: Collection[str]) -> dict[str, Stat]:
        """By name. Those that are not there are left out."""
        ...

    def copy(self, path: str, to: str) -> None:
        """The same bytes under a second, new name, which does not go with the first."""
        ...

    def move(self, path: str, to: str) -> None:
        """To another new name in the same folder."""
        ...

    def remove(self, paths: Iterable[str]) -> int:
        """Returns how many are not there any more. What cannot be removed is logged and stays."""
        ...

    def probe(self, known: str) -> str:
        """Try all that is needed. Returns the id of this place, which it gets now if it has none: `known`, or
        a new one."""
        ...

    def identity(self) -> str:
        """Empty: it cannot be seen from here, or has no id yet. Never raises."""
        ...


def storage_at(address: str) -> Storage:
    """`address`: an absolute path, or what `ObjectAddress.parse` reads. Raises ConfigError without the
    package that speaks to object stores."""
    if "://" not in address:
        return FolderStorage(Path(address))
    from serve_app.artifacts.objects import ObjectStorage

    return ObjectStorage(ObjectAddress.parse(address))


class FolderStorage:
    """Folders below `root`, which may be a link. Nothing below it may be: nothing is served through one, so
    nothing is written, found or removed through one either."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def address(self) -> str:
        return str(self._root)

    def put(self, path: str, data: bytes) -> None:
        folder, _, name = path.partition("/")
        put_once(self._root, folder, name, f".{name}.tmp", data)

    def read(self, path: str, first: int = 0, count: int | None = None) -> bytes:
        with self.open(path) as file:
            file.seek(first)
            return file.read(-1 if count is None else count)

    def open(self, path: str) -> BinaryIO:
        folder, _, name = path.partition("/")
        with opened(self._root, folder) as there:
            return open(name, "rb", opener=to_read(there))

    def names(self, folder: str) -> list[str]:
        with (
            suppress(FileNotFoundError),
            opened(self._root, folder) as there,
            os.scandir(there) as found,
        ):
            return [entry.name for entry in found]
        return []

    def stats(self, folder: str, names: Collection[str]) -> dict[str, Stat]:
        stats: dict[str, Stat] = {}
        with suppress(FileNotFoundError), opened(self._root, folder) as there:
            for name in names:
                with suppress(FileNotFoundError):
                    found = os.stat(name, dir_fd=there, follow_symlinks=False)
                    stats[name] = Stat(found.st_size, found.st_mtime)
        return stats

    def copy(self, path: str, to: str) -> None:
        (folder, _, name), (target, _, new) = path.partition("/"), to.partition("/")
        (self._root / target).mkdir(parents=True, exist_ok=True)
        with opened(self._root, folder) as source, opened(self._root, target) as there:
            os.link(name, new, src_dir_fd=source, dst_dir_fd=there, follow_symlinks=False)
            os.fsync(there)

    def move(self, path: str, to: str) -> None:
        folder, _, name = path.partition("/")
        with opened(self._root, folder) as there:
            os.rename(name, to.partition("/")[2], src_dir_fd=there, dst_dir_fd=there)
            os.fsync(there)

    def remove(self, paths: Iterable[str]) -> int:
        gone = 0
        for path in paths:
            folder, _, name = path.partition("/")
            try:
                with suppress(FileNotFoundError), opened(self._root, folder) as there:
                    os.unlink(name, dir_fd=there)
                gone += 1
            except OSError as error:
                log.warning("could not remove %s: %s", path, error.strerror)
        return gone

    def probe(self, known: str) -> str:
        """A new file in the folder of today, under a second name."""
        name = f".probe-{os.getpid()}"
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        put_once(self._root, today, f"{name}.link", f"{name}.tmp", b"\0" * PROBE_BYTES)
        with opened(self._root, today) as folder:
            os.unlink(f"{name}.link", dir_fd=folder)
        return identify(self._root, known)

    def identity(self) -> str:
        return identity_of(self._root)
