"""Copies of a job store: made while it is used, looked into, and made ready to be one again.

Knows the tables; nothing of the files that they name, nor of where copies are kept.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from serve_app.errors import ConfigError
from serve_app.jobs.job import published
from serve_app.jobs.store.queries import UPLOADS_IN_USE
from serve_app.jobs.store.schema import LIVE, SCHEMA_VERSION

PAST_FENCES = 1000
"""More attempts than any job had between a copy and the loss of its original: a job that runs again takes no
name of a file that the lost store knew."""


class PublishedFile(NamedTuple):
    """A file that a job published. `path` is relative to output/."""

    path: str
    sha256: str


class StoreFacts(NamedTuple):
    jobs: int
    live: int  # they run again when the copy is restored
    newest: float | None  # unix seconds: when the newest job was ordered


def copy_store(source: Path, to: Path) -> None:
    """The store of the database `source`, as it is at one moment, as the new file `to`. Others read and write
    meanwhile. Raises sqlite3.Error."""
    with closing(_reading(source)) as db:
        db.execute("VACUUM INTO ?", (str(to),))
    to.chmod(0o600)  # it holds prompts


def about(copy: Path) -> StoreFacts:
    """Raises ConfigError: it is no store, is damaged, or newer than this code."""
    try:
        with closing(_reading(copy)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if not 0 < version <= SCHEMA_VERSION:
                what = "no job store" if version == 0 else f"a job store of schema {version}"
                raise ConfigError(f"{copy} is {what}; this code knows schema {SCHEMA_VERSION}")
            (wrong,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if wrong != "ok":
                raise ConfigError(f"{copy} is damaged: {wrong}")
            row = db.execute(
                f"SELECT COUNT(*), COALESCE(SUM({LIVE}), 0), MAX(created_at) FROM jobs"
            ).fetchone()
            return StoreFacts(*row)
    except sqlite3.Error as error:
        raise ConfigError(f"{copy} cannot be read: {error}") from error


def files_of(copy: Path) -> Iterator[PublishedFile]:
    """Every file that its jobs published. Raises sqlite3.Error."""
    with closing(_reading(copy)) as db:
        for (images,) in db.execute("SELECT images FROM jobs WHERE images != '[]'"):
            for path, sha256 in published(json.loads(images)).items():
                yield PublishedFile(path, sha256)


def uploads_of(copy: Path) -> set[str]:
    """Ids of the pictures that its living jobs start from. Raises sqlite3.Error."""
    with closing(_reading(copy)) as db:
        return {row[0] for row in db.execute(UPLOADS_IN_USE)}


def make_ready(copy: Path, after_epoch: int) -> None:
    """Let a store go on from `copy`: no epoch and no fence comes twice, whatever the lost store did after the
    copy was made. `after_epoch`: the highest that is known. Raises sqlite3.Error."""
    with closing(sqlite3.connect(copy, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        # Seconds since 1970 are past every count of starts, and past those of earlier restores.
        db.execute(
            "UPDATE meta SET value = MAX(value, ?, ?) + 1 WHERE key = 'epoch'",
            (after_epoch, int(time.time())),
        )
        db.execute(f"UPDATE jobs SET fence = fence + {PAST_FENCES} WHERE {LIVE}")
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def epoch_of(store: Path) -> int:
    """0: there is no such store, or it cannot be read any more."""
    if not store.exists():
        return 0
    try:
        with closing(_reading(store)) as db:
            row = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            return row[0] if row else 0
    except sqlite3.Error:
        return 0


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
