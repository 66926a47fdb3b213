"""ZipStream: a ZIP that is written front to back and taken away piece by piece, never whole in memory.

Knows the format by Python's zipfile, ZIP64 where it is needed; nothing of what is packed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, cast

_MODE = 0o644 << 16
_PACKED = (".png", ".jpg", ".webp", ".zip")


class _Sink:
    """Takes what is written. It cannot be seeked, so zipfile puts sizes after each file."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.waiting = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self.pieces.append(bytes(data))
        self.waiting += len(data)
        return len(data)

    def flush(self) -> None: ...


class ZipStream:
    """Write members one after the other, `take` what is ready, `close`, and take the rest."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(cast(IO[bytes], self._sink), "w", allowZip64=True)

    @contextmanager
    def member(self, path: str, at: datetime) -> Generator[IO[bytes]]:
        """A file to write into. What is packed already is only stored."""
        entry = zipfile.ZipInfo(path, (max(1980, at.year), *at.timetuple()[1:6]))
        entry.external_attr = _MODE
        entry.create_system = 3  # Unix, on every system
        stored = path.endswith(_PACKED)
        entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
        with self._zip.open(entry, "w", force_zip64=True) as file:
            yield file

    @property
    def waiting(self) -> int:
        """Bytes that may be taken."""
        return self._sink.waiting

    def take(self) -> bytes:
        data = b"".join(self._sink.pieces)
        self._sink.pieces.clear()
        self._sink.waiting = 0
        return data

    def close(self) -> None:
        """Write the list of all members."""
        self._zip.close()
