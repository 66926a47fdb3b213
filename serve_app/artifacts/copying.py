"""Finished files and uploads, copied from one folder to another, each as it was published.

Knows names and hashes; not which jobs they belong to, nor why they are copied. One process at a time may copy
to a folder.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path

from serve_app.artifacts.disk import opened, put_once, to_read
from serve_app.artifacts.names import is_ours
from serve_app.artifacts.uploads import FOLDER as UPLOADS
from serve_app.artifacts.uploads import parse_upload

UNFINISHED = ".copying"


class Copied(Enum):
    NEW = "copied"
    THERE = "there already"
    MISSING = "missing"  # the source has no such file
    DAMAGED = "damaged"  # it is not what was published


def copy_file(source: Path, to: Path, path: str, sha256: str) -> Copied:
    """One file, by its path below both folders. Whole on disk, or not there. Raises OSError: `to` cannot be
    written or `source` cannot be read."""
    if not is_ours(path):
        return Copied.MISSING
    folder, _, name = path.partition("/")
    return _copied(source, to, folder, name, sha256)


def copy_uploads(source: Path, to: Path, now: float, needed: set[str]) -> int:
    """Those whose time is not over at `now` (unix seconds), and those of these ids. Returns how many are new.
    Raises OSError."""
    new = 0
    for path in _files_in(source / UPLOADS):
        upload = parse_upload(path.name)
        if upload is not None and (upload.expires_at > now or upload.upload_id in needed):
            new += _copied(source, to, UPLOADS, path.name, upload.sha256) is Copied.NEW
    return new


def remove_others(folder: Path, kept: set[str], uploads: set[str], now: float) -> int:
    """Remove finished files that are not in `kept`, and uploads that are over and not in `uploads`. What has
    no name of ours stays. Returns how many went. Raises OSError."""
    unwanted = [
        path
        for day in _folders_in(folder)
        for path in _files_in(day)
        if is_ours(f"{day.name}/{path.name}") and f"{day.name}/{path.name}" not in kept
    ]
    for path in _files_in(folder / UPLOADS):
        upload = parse_upload(path.name)
        if upload is not None and upload.expires_at <= now and upload.upload_id not in uploads:
            unwanted.append(path)
    for path in unwanted:
        path.unlink(missing_ok=True)
    for day in {path.parent for path in unwanted}:
        with suppress(OSError):  # it is not empty
            day.rmdir()
    return len(unwanted)


def _copied(source: Path, to: Path, folder: str, name: str, sha256: str) -> Copied:
    if (to / folder / name).exists():
        return Copied.THERE
    try:
        with opened(source, folder) as there, open(name, "rb", opener=to_read(there)) as file:
            data = file.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return Copied.MISSING
        raise
    if hashlib.sha256(data).hexdigest() != sha256:
        return Copied.DAMAGED
    (to / folder / UNFINISHED).unlink(missing_ok=True)  # of a process that was killed
    put_once(to, folder, name, UNFINISHED, data)
    return Copied.NEW


def _folders_in(folder: Path) -> Iterable[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]


def _files_in(folder: Path) -> Iterable[Path]:
    return [*folder.iterdir()] if folder.is_dir() else []
