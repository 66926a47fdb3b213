"""Manifest: what an archive holds and what it lacks, as CSV and as JSON, written row by row.

Both wait in temporary files, so that a long one needs no memory. Knows columns; nothing of jobs.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self

CHUNK = 256 * 1024
COLUMNS = (
    "row", "file", "status", "name", "prompt", "negative_prompt", "style_id", "seed", "width", "height",
    "model", "sha256", "size_bytes", "reused", "job_id", "code", "error",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Manifest:
    """`about`: fields of the JSON beside `rows`. `open` comes first."""

    def __init__(self, about: dict[str, Any]) -> None:
        self._about = about
        self._files = ExitStack()
        self._first = True

    def open(self) -> None:
        """Makes the two files. May be called in a thread."""
        self._csv = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        self._json = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        head = json.dumps(self._about, ensure_ascii=False, indent=1)
        self._json.write(f'{head[:-2]},\n "rows": ['.encode())
        self._csv.write(b"\xef\xbb\xbf")  # without it Excel reads UTF-8 as something else
        self._line(COLUMNS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def add(self, **cells: Any) -> None:
        """One file, or one row that has none. What is left out is empty, or null."""
        row = {name: cells.get(name) for name in COLUMNS}
        self._line(["" if value is None else guarded(value) for value in row.values()])
        comma = "" if self._first else ","
        self._json.write(f"{comma}\n  {json.dumps(row, ensure_ascii=False)}".encode())
        self._first = False

    def parts(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Name and content of each file. Nothing can be added afterwards."""
        self._json.write(b"\n ]\n}\n")
        for name, file in ("manifest.csv", self._csv), ("manifest.json", self._json):
            file.seek(0)
            yield name, iter(lambda file=file: file.read(CHUNK), b"")

    def _line(self, cells: Any) -> None:
        text = io.StringIO()
        csv.writer(text).writerow(cells)
        self._csv.write(text.getvalue().encode())


def guarded(value: Any) -> Any:
    """A cell that no spreadsheet runs as a formula: a quote goes before what would be one."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
