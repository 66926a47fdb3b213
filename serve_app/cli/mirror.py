"""Mirror: a folder that is kept in step with a server, and that others write to as well.

Knows files and what it wrote itself; nothing of servers, jobs or engines.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from serve_app.errors import ConfigError

STATE = ".assets-pull.json"
PART = ".assets-part"
"""Ending of a file that is not whole yet."""
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written here. `source`: what it is on the server; `number`: in the order of writing;
    `origin`: the hash it had on the server, where it was changed on its way."""

    path: str
    source: str
    sha256: str
    number: int
    origin: str = ""


class Mirror:
    """Paths are relative to the folder, with forward slashes. A file is whole or not there, wherever a run is
    cut; nothing is removed but own leftovers, and a file that somebody changed or put there is left alone.

    Raises ConfigError: the folder cannot be written, or its state is not ours."""

    def __init__(self, directory: Path) -> None:
        self._root = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for part in directory.rglob(f"*{PART}"):
                part.unlink()
            self._entries = {entry.path: entry for entry in self._read()}
        except OSError as error:
            raise ConfigError(f"{directory} cannot be used: {error.strerror}") from error
        self._saved = True

    @property
    def entries(self) -> list[Written]:
        return list(self._entries.values())

    def path_of(self, source: str) -> str | None:
        """Where it was written before."""
        return next((e.path for e in self._entries.values() if e.source == source), None)

    def number_of(self, path: str) -> int:
        return self._entries[path].number

    def has(self, path: str, sha256: str) -> bool:
        """It was written here with this content, and stands there still, whoever changed it since."""
        known = self._entries.get(path)
        if known is None or not (self._root / path).exists():
            return False
        return sha256 == (known.origin or known.sha256)

    def size_of(self, path: str) -> tuple[int, int] | None:
        """Width and height of a picture; None: it is not there, or none any more."""
        try:
            with Image.open(self._root / path, formats=["PNG", "WEBP"]) as image:
                return image.size
        except (OSError, SyntaxError, ValueError):
            return None

    def is_taken(self, path: str) -> bool:
        """By a file, which may be somebody else's, or by one that was written here and is gone."""
        return path in self._entries or os.path.lexists(self._root / path)

    def put(
        self, path: str, source: str, data: bytes, change: Callable[[bytes], bytes] | None = None
    ) -> str:
        """`new`, `changed`, `same`; or `kept`: somebody has changed it, so it stays as it is. `change`: what
        becomes of the data on its way, which may be something else each time."""
        checked(path)
        digest, origin = hashlib.sha256(data).hexdigest(), ""
        known, there = self._entries.get(path), self._digest(path)
        if change is not None:
            origin = digest
            if known is not None and known.origin == origin and there is not None:
                digest = known.sha256
            else:
                data = change(data)
                digest = hashlib.sha256(data).hexdigest()
        if there == digest:  # also where a cut run had written it, and not its state
            happened = "same"
        elif known is None:
            if there is not None:
                return "kept"
            happened = "new"
        elif there is not None and there != known.sha256:
            return "kept"
        else:
            happened = "changed" if there is not None else "new"
        if happened != "same":
            self._write(path, data)
        number = known.number if known else 1 + self._highest()
        written = Written(path, source, digest, number, origin)
        if known != written:
            self._entries[path] = written
            self._saved = False
        return happened

    def save(self) -> None:
        if not self._saved:
            listed = [asdict(entry) for entry in self._entries.values()]
            self._write(STATE, (json.dumps({"schema": SCHEMA, "files": listed}, indent=1)).encode())
            self._saved = True

    def _highest(self) -> int:
        return max((entry.number for entry in self._entries.values()), default=-1)

    def _digest(self, path: str) -> str | None:
        try:
            return hashlib.sha256((self._root / path).read_bytes()).hexdigest()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error

    def _write(self, path: str, data: bytes) -> None:
        """Under another name first, and on disk before it gets its own."""
        target = self._root / path
        part = target.with_name(target.name + PART)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
        finally:  # also on Ctrl-C
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _read(self) -> Iterable[Written]:
        try:
            state: Any = json.loads((self._root / STATE).read_text())
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise ConfigError(f"{self._root / STATE} is broken; remove it to start anew") from error
        if state.get("schema") != SCHEMA:
            raise ConfigError(f"{self._root / STATE} was written by another version of assets")
        return [Written(**entry) for entry in state["files"]]


def checked(path: str) -> str:
    """Raises ConfigError for a path that leads out of the folder, or to a hidden file other than ours."""
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith(".") for part in parts) and path != STATE
    if not parts or path.startswith("/") or "\\" in path or ":" in path or ".." in parts or hidden:
        raise ConfigError(f"the server named a file {path!r}, which is not written")
    return path
