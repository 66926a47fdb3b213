"""A job comes back from its row as it was stored, without what is not stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from serve_app.jobs.job import Job, Status
from serve_app.jobs.store.rows import from_row, to_row
from serve_app.jobs.store.schema import COLUMNS, NAMED, TABLES, VALUES
from tests.factories import image_file, job, labels, summary
from tests.jobs.harness import ERROR

FULL = job(
    labelled=labels(
        client="build",
        priority="high",
        tags=["b", "a"],
        metadata={"odd": "\ud800\0", "huge": 10**400},
        retry_of="other",
    ),
    job_id="full",
    owner="bob",
    params={"prompt": "ключ", "nested": [1, {"a": None}]},
    summary=summary(pool="big", model="m", style_id="icon", seed=2**32 - 1, n=3, work=1.25),
    created_at=1.5,
    number=1_500_000,
    deadline=9.5,
)


@pytest.fixture(name="db")
def _db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.row_factory = sqlite3.Row
        db.executescript(TABLES)
        yield db


def through(db: sqlite3.Connection, stored: Job) -> Job:
    db.execute(f"INSERT OR REPLACE INTO jobs ({NAMED}) VALUES ({VALUES})", to_row(stored))
    return from_row(db.execute(f"SELECT {NAMED} FROM jobs").fetchone())


def test_every_field_of_a_new_job_comes_back(db: sqlite3.Connection) -> None:
    assert through(db, FULL) == FULL


def test_every_field_of_an_ended_job_comes_back(db: sqlite3.Connection) -> None:
    ended = FULL.evolve(
        status=Status.SUCCESS,
        fence=3,
        attempts=2,
        alone=True,
        started_at=2.5,
        completed_at=3.5,
        images=(image_file(path="a.png"), image_file(path="b.png", index=1, notes=["x"])),
        error=ERROR,
        troubles={"stopped": 2, "refused": 1},
    )
    assert through(db, ended) == ended


def test_what_lives_in_memory_only_is_not_stored(db: sqlite3.Connection) -> None:
    seen = FULL.evolve(
        waiting_for="replica",
        progress={"step": 1},
        reported_at=1.0,
        preview={"index": 0, "number": 1, "data": b""},
        seq=7,
    )
    assert through(db, seen) == FULL


def test_a_row_has_every_column_and_the_line_s_columns_say_what_the_labels_say() -> None:
    row = to_row(FULL)
    assert row.keys() == set(COLUMNS)
    assert (row["client"], row["priority"]) == ("build", "high")
    assert row["ended"] is None
