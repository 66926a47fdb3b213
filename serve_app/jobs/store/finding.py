"""What lists find a job by, beside its own columns: tags, marks, and the words it was ordered with.

Knows the three tables and what of a job goes into them; the queries that read them are in `queries.py`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from serve_app.jobs.job import Job
from serve_app.messages import Labels, Mark

FINDING_TABLES = """
CREATE TABLE IF NOT EXISTS tags (
    owner TEXT NOT NULL, tag TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (owner, tag, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks (
    owner TEXT NOT NULL, mark TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (owner, mark, number)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    owner, said, tokenize = 'unicode61 remove_diacritics 2', detail = column
);
"""
"""`marks`: of each job, the marks that any of its images has, as `marks_of` names them. `words`: its row id
is the job's number. The owner is in the index as well, as one word, so that nobody pays for the jobs of
others. The text itself is kept, since SQLite deletes from an index without it only from 3.43 on."""

_INSERT_TAG = "INSERT INTO tags VALUES (?, ?, ?)"
_INSERT_MARK = "INSERT INTO marks VALUES (?, ?, ?)"
_INSERT_WORDS = "INSERT INTO words (rowid, owner, said) VALUES (?, ?, ?)"


def marks_of(labels: Labels) -> set[str]:
    """A rating counts as every lower one too, so that `rated 3 or better` is one walk along the index."""
    found: set[str] = set()
    for mark in labels.get("marks", {}).values():
        found |= {name for name in ("starred", "rejected") if mark.get(name)}
        found |= {f"rated {stars}" for stars in range(1, mark.get("rating", 0) + 1)}
    return found


def matching(owner: str, words: Sequence[str]) -> str:
    """The FTS5 expression for the owner's jobs with all these words, or longer ones that begin so. Words are
    letters and digits."""
    said = " ".join(f'"{word}" *' for word in words)
    return f'owner : "{_word_of(owner)}" AND said : ({said})'


def said_of(params: Mapping[str, Any]) -> str:
    """What people would look for: the prompt of an order, the name of a sheet. Empty: a derived job, which
    is found by the words of the job that it was made from."""
    said = params.get("subject") or params.get("prompt")
    return str(said or params.get("request", {}).get("name") or "")


def index(
    db: sqlite3.Connection, number: int, owner: str, labels: Labels, params: Mapping[str, Any]
) -> None:
    """Let a new job be found."""
    _label(db, number, owner, labels)
    _say(db, number, owner, labels, params)


def index_new(db: sqlite3.Connection, jobs: Iterable[tuple[Job, Mapping[str, Any]]]) -> None:
    """`index`, of many jobs that have words of their own, each with its params."""
    tags: list[tuple[str, str, int]] = []
    marks: list[tuple[str, str, int]] = []
    words: list[tuple[int, str, str]] = []
    for job, params in jobs:
        tags += [(job.owner, tag, job.number) for tag in job.labels["tags"]]
        if "marks" in job.labels:
            marks += [(job.owner, mark, job.number) for mark in marks_of(job.labels)]
        words.append((job.number, _word_of(job.owner), said_of(params)))
    db.executemany(_INSERT_TAG, tags)
    db.executemany(_INSERT_MARK, marks)
    db.executemany(_INSERT_WORDS, words)


def relabel(db: sqlite3.Connection, number: int, owner: str, old: Labels, new: Labels) -> None:
    """Let a job be found by other tags and marks."""
    _unlabel(db, number, owner, old)
    _label(db, number, owner, new)


def unindex(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Before the rows of these jobs go: what their labels say now is taken out with them."""
    for number in numbers:
        row = db.execute("SELECT owner, labels FROM jobs WHERE number = ?", (number,)).fetchone()
        if row is not None:
            _unlabel(db, number, row["owner"], json.loads(row["labels"]))
            db.execute("DELETE FROM words WHERE rowid = ?", (number,))


def fill_words(db: sqlite3.Connection) -> None:
    """Of every job, in a store that had no index of words. Parents come before what was derived from them."""
    rows = db.execute("SELECT number, owner, labels, params FROM jobs ORDER BY number")
    for row in rows:
        labels = json.loads(row["labels"])
        _say(db, row["number"], row["owner"], labels, from_json(row["params"]))


def fits(marks: Sequence[Mark], wanted: Mapping[str, Any]) -> bool:
    """One of the images with these marks is as `starred`, `rejected` and `rating` of a filter want it."""
    return any(
        all(
            bool(mark.get(name)) == wanted[name]
            for name in ("starred", "rejected")
            if name in wanted
        )
        and mark.get("rating", 0) >= wanted.get("rating", 0)
        for mark in marks
    )


def _say(
    db: sqlite3.Connection, number: int, owner: str, labels: Labels, params: Mapping[str, Any]
) -> None:
    said = said_of(params)
    if not said and (parent := labels.get("derived_from")):
        found = db.execute(
            "SELECT words.said FROM jobs CROSS JOIN words ON words.rowid = jobs.number"
            " WHERE jobs.job_id = ?",
            (parent,),
        ).fetchone()
        said = found[0] if found else ""
    db.execute(_INSERT_WORDS, (number, _word_of(owner), said))


def _label(db: sqlite3.Connection, number: int, owner: str, labels: Labels) -> None:
    tags, marks = labels["tags"], marks_of(labels)
    db.executemany(_INSERT_TAG, [(owner, tag, number) for tag in tags])
    db.executemany(_INSERT_MARK, [(owner, mark, number) for mark in marks])


def _unlabel(db: sqlite3.Connection, number: int, owner: str, labels: Labels) -> None:
    for table, column, values in (
        ("tags", "tag", labels["tags"]),
        ("marks", "mark", marks_of(labels)),
    ):
        db.executemany(
            f"DELETE FROM {table} WHERE owner = ? AND {column} = ? AND number = ?",
            [(owner, value, number) for value in values],
        )


def _word_of(owner: str) -> str:
    """Letters and digits only, so that it is one word of the index."""
    return f"o{owner.encode().hex()}"
