"""Finished files and uploads, copied from one storage to another, each as it was published.

Knows names and hashes; not which jobs they belong to, nor why they are copied. One process at a time may copy
to a storage.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path

from serve_app.artifacts.names import is_ours
from serve_app.artifacts.storage import Storage
from serve_app.artifacts.uploads import FOLDER as UPLOADS
from serve_app.artifacts.uploads import parse_upload


class Copied(Enum):
    NEW = "copied"
    THERE = "there already"
    MISSING = "missing"  # the source has no such file
    DAMAGED = "damaged"  # it is not what was published


def copy_file(source: Storage, to: Storage, path: str, sha256: str) -> Copied:
    """One file, by its path in both. Whole, or not there. Raises OSError: `to` cannot be
    written or `source` cannot be read."""
    if not is_ours(path):
        return Copied.MISSING
    return _copied(source, to, path, sha256)


def copy_uploads(source: Storage, to: Storage, now: float, needed: set[str]) -> int:
    """Those whose time is not over at `now` (unix seconds), and those of these ids. Returns how many are new.
    Raises OSError."""
    new = 0
    for name in source.names(UPLOADS):
        upload = parse_upload(name)
        if upload is not None and (upload.expires_at > now or upload.upload_id in needed):
            new += _copied(source, to, f"{UPLOADS}/{name}", upload.sha256) is Copied.NEW
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


def _copied(source: Storage, to: Storage, path: str, sha256: str) -> Copied:
    folder, _, name = path.partition("/")
    if to.stats(folder, [name]):
        return Copied.THERE
    try:
        data = source.read(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return Copied.MISSING
        raise
    if hashlib.sha256(data).hexdigest() != sha256:
        return Copied.DAMAGED
    to.remove([f"{folder}/.{name}.tmp"])  # of a process that was killed
    to.put(path, data)
    return Copied.NEW


def _folders_in(folder: Path) -> Iterable[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]


def _files_in(folder: Path) -> Iterable[Path]:
    return [*folder.iterdir()] if folder.is_dir() else []
