"""backup and restore: the job store and all published files, to a folder and back.

The folder holds `output/`, where files are added, and a copy of the store for each backup. Knows the layout;
how a store and a file are copied is known by `jobs/store/copies.py` and `artifacts/copying.py`.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from serve_app.artifacts.copying import Copied, copy_file, copy_uploads, remove_others
from serve_app.artifacts.storage import FolderStorage, Storage
from serve_app.errors import ConfigError, StorageFailed
from serve_app.jobs.store.copies import (
    PublishedFile,
    StoreFacts,
    about,
    copy_store,
    epoch_of,
    files_of,
    make_ready,
    uploads_of,
)
from serve_app.jobs.store.directory import held
from serve_app.jobs.store.redis_copies import copy_redis
from serve_app.jobs.store.redis_link import RedisLink

DATABASE = "jobs.db"
PART = ".part"
_COPY = re.compile(r"jobs-(\d{8}T\d{6}Z)\.db")
_BESIDE = ("", "-wal", "-shm")

Progress = Callable[[Iterable[PublishedFile], int], Iterable[PublishedFile]]
"""Passes files on, of which there are so many, and shows how far they are."""


@dataclass
class BackupReport:
    """What a backup or a restore did. `missing`: files that no folder has any more, `damaged`: that are not
    what was published; none of both was copied."""

    copy: Path
    about: StoreFacts
    new: int = 0
    there: int = 0
    uploads: int = 0
    removed: int = 0
    missing: list[str] = field(default_factory=list[str])
    damaged: list[str] = field(default_factory=list[str])
    aside: Path | None = None  # the store that was there before a restore


def back_up(
    state: Path,
    output: Storage,
    folder: Path,
    keep: int,
    progress: Progress,
    link: RedisLink | None = None,
) -> BackupReport:
    """Copy the store, then the files that it names, into `folder`; keep the newest `keep` copies, and no file
    that none of them names. The service may run. `link`: to a store in Redis; None: it is in `state`. Raises
    ConfigError, StorageFailed; then the older copies are as they were."""
    source = state / DATABASE
    if link is None and not source.is_file():
        raise ConfigError(f"there is no job store in {state}: nothing to back up")
    _refuse_inside(folder, state, output)
    with _writing(folder), _alone(folder):
        now = time.time()
        copy = folder / f"jobs-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}.db"
        part = folder / f"{copy.name}{PART}"
        for left in folder.glob(f"jobs-*.db{PART}*"):  # of a backup that was killed
            left.unlink()
        try:
            if link is None:
                copy_store(source, part)
            else:
                copy_redis(link, part)
            report = BackupReport(copy, about(part))
            (folder / "output").mkdir(exist_ok=True)
            files = FolderStorage(folder / "output")
            _copy_files(report, part, output, files, progress)
            report.uploads = copy_uploads(output, files, now, uploads_of(part))
            _sync(part)
            part.replace(copy)
            _sync(folder)
        finally:
            part.unlink(missing_ok=True)
        for old in copies(folder)[keep:]:
            old.unlink()
        kept = copies(folder)
        report.removed = remove_others(
            folder / "output",
            {stored.path for one in kept for stored in files_of(one)},
            {upload for one in kept for upload in uploads_of(one)},
            now,
        )
    return report


def restore(
    state: Path, output: Storage, folder: Path, name: str, progress: Progress, *, replace: bool
) -> BackupReport:
    """Put a copy of `folder` and its files where the service looks for them. `name`: the copy; empty: the
    newest. `replace`: a store that is there is put aside. No service may use `state`. Raises ConfigError,
    StoreHeld, StorageFailed; then the store is as it was."""
    copy = _chosen(folder, name)
    found = about(copy)
    with held(state), _writing(state):
        store = state / DATABASE
        past = epoch_of(store)
        if store.exists() and store.stat().st_size and not replace:
            raise ConfigError(
                f"{store} is a job store already; --replace puts it aside, and restores over it"
            )
        report = BackupReport(copy, found)
        with _refusals(output.address):
            files = FolderStorage(folder / "output")
            _copy_files(report, copy, files, output, progress)
            report.uploads = copy_uploads(files, output, time.time(), uploads_of(copy))
        part = state / f".{DATABASE}{PART}"
        part.unlink(missing_ok=True)
        shutil.copyfile(copy, part)
        part.chmod(0o600)
        make_ready(part, past)
        _sync(part)
        if store.exists() and store.stat().st_size:
            report.aside = _put_aside(store)
        for end in _BESIDE[1:]:  # they belong to the store that was here
            store.with_name(DATABASE + end).unlink(missing_ok=True)
        part.replace(store)
        _sync(state)
    return report


def copies(folder: Path) -> list[Path]:
    """The newest first."""
    found = (path for path in folder.glob("jobs-*.db") if _COPY.fullmatch(path.name))
    return sorted(found, key=lambda path: path.name, reverse=True)


def _chosen(folder: Path, name: str) -> Path:
    found = copies(folder)
    if not found:
        raise ConfigError(f"there is no backup in {folder}")
    for path in found:
        if name in ("", path.name, path.stem):
            return path
    names = ", ".join(path.name for path in found)
    raise ConfigError(f"{folder} has no copy {name!r}; it has {names}")


def _copy_files(
    report: BackupReport, store: Path, source: Storage, to: Storage, progress: Progress
) -> None:
    wanted = [*files_of(store)]
    for stored in progress(wanted, len(wanted)):
        match copy_file(source, to, stored.path, stored.sha256):
            case Copied.NEW:
                report.new += 1
            case Copied.THERE:
                report.there += 1
            case Copied.MISSING:
                report.missing.append(stored.path)
            case Copied.DAMAGED:
                report.damaged.append(stored.path)


def _put_aside(store: Path) -> Path:
    """The store under a name of its own, with what SQLite keeps beside it."""
    aside = store.with_name(f"jobs-replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.db")
    for end in _BESIDE[1:]:
        beside = store.with_name(DATABASE + end)
        if beside.exists():
            os.link(beside, aside.with_name(aside.name + end))
    os.link(store, aside)
    return aside


def _refuse_inside(folder: Path, state: Path, output: Storage) -> None:
    for name, used in ("state_dir", state), ("output_dir", Path(output.address)):
        if folder.resolve().is_relative_to(used.resolve()):
            raise ConfigError(f"{folder} lies in the service's own {name}: name another folder")


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Two backups into one folder would remove each other's files."""
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another backup to {folder} is going on") from None
        yield


@contextmanager
def _writing(folder: Path) -> Generator[None]:
    """The folder, made if it is missing, for this user alone. What the disk refuses is a StorageFailed."""
    with _refusals(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield


@contextmanager
def _refusals(place: object) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageFailed(f"{place}: the job store could not be copied: {error}") from error
    except OSError as error:
        raise StorageFailed(f"{place}: {error.strerror}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
