"""pages: which pages of a SQLite database in WAL mode a commit has changed, and the file as it was before.

Reads the files as https://www.sqlite.org/walformat.html describes them. Does not know what the pages hold,
nor where they go.
"""

from __future__ import annotations

import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEADER, FRAME_HEADER = 32, 24
"""Bytes of the WAL's header, and before the page in each of its frames."""


@dataclass(frozen=True)
class Change:
    """Pages by number, 1 is the first, as a commit left them. `size`: of the database, in pages."""

    pages: dict[int, bytes]
    size: int

    @property
    def bytes(self) -> int:
        return sum(map(len, self.pages.values()))


class Wal:
    """Of the database at `path`, which is open in WAL mode. One thread writes there, and calls this between
    its transactions. The files stay open: to close one would drop the locks that SQLite has on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._salt, self._seen = b"", 0  # of the newest frame that was read, its number
        self._files: list[BinaryIO] = []

    def changed(self) -> Change | None:
        """What was committed since `taken`."""
        state = self._state()
        if state is None:
            return None
        frames, size, salt = state
        first = self._seen if salt == self._salt else 0
        if first >= frames:
            return None
        wal = self._open()[0]
        page_size = _page_size(wal)
        step = FRAME_HEADER + page_size
        read = os.pread(wal.fileno(), (frames - first) * step, HEADER + first * step)
        pages: dict[int, bytes] = {}
        for at in range(0, len(read), step):
            (number,) = struct.unpack_from(">I", read, at)
            pages[number] = read[at + FRAME_HEADER : at + step]
        return Change(pages, size)

    def taken(self) -> None:
        """What `changed` returned is kept."""
        if (state := self._state()) is not None:
            self._seen, self._salt = state[0], state[2]

    @property
    def frames(self) -> int:
        """Length of the WAL."""
        state = self._state()
        return 0 if state is None else state[0]

    def copy_taken(self, to: Path) -> None:
        """The database as it was when `taken` was called last, as a new file `to`, with a WAL if it needs
        one. Nothing newer must have been checkpointed."""
        shutil.copyfile(self.path, to)
        wal = self._open()[0]
        header = os.pread(wal.fileno(), HEADER, 0)
        # Else the WAL was begun anew after all of it was in the database.
        if len(header) == HEADER and header[16:24] == self._salt:
            length = HEADER + self._seen * (FRAME_HEADER + _page_size(wal))
            to.with_name(to.name + "-wal").write_bytes(os.pread(wal.fileno(), length, 0))

    def _state(self) -> tuple[int, int, bytes] | None:
        """Committed frames, the size of the database in pages and the salt of the WAL, from the header of the
        WAL's index. None: there is no WAL yet."""
        try:
            _, index = self._open()
        except FileNotFoundError:
            return None
        head = os.pread(index.fileno(), 48, 0)
        if len(head) < 48 or not head[12]:
            return None
        frames, size = struct.unpack_from("=II", head, 16)
        return frames, size, head[32:40]

    def _open(self) -> list[BinaryIO]:
        """The WAL and its index."""
        if not self._files:
            self._files = [
                self.path.with_name(self.path.name + end).open("rb", buffering=0)
                for end in ("-wal", "-shm")
            ]
        return self._files

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files = []


def _page_size(wal: BinaryIO) -> int:
    (size,) = struct.unpack_from(">I", os.pread(wal.fileno(), HEADER, 0), 8)
    return size
