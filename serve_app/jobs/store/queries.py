"""The query behind one page of a list of jobs, and one that the store and its copies share.

Knows columns and indexes; it only makes SQL text and runs nothing.
"""

from __future__ import annotations

import json
import math
import sqlite3
from typing import Any

from pydantic_core import from_json

from serve_app.jobs.store.finding import fits, matching
from serve_app.jobs.store.schema import COLUMNS, LIVE
from serve_app.messages import BatchFilter, JobFilter, Labels, Mark

MARKS = {"starred", "rejected", "rating"}
LAST = 2**62
"""More than the number of any job."""
UPLOADS_IN_USE = (
    "SELECT tree.value FROM jobs, json_tree(jobs.params) AS tree"
    f" WHERE {LIVE} AND params LIKE '%\"upload_id\"%' AND tree.key = 'upload_id'"
)
"""Wherever in its params a job names an upload, it is called `upload_id`."""


def listing(
    owner: str, wanted: JobFilter, *, before: int | None, after: int | None
) -> tuple[str, list[Any]]:
    """SQL, with its values, for the owner's jobs numbered below `before`, or above `after`, nearest first. It
    walks one index: of the words, else of a mark, of the batch, of the tag, of the model, else of style and
    status. Several statuses are as many walks, merged. What the index does not filter, `matches` must."""
    low, high = bounds(wanted, before=before, after=after)
    statuses: list[str | None] = [None]
    if "words" in wanted:
        # CROSS: the words lead, whatever SQLite guesses of their number.
        source, number = "words CROSS JOIN jobs ON jobs.number = words.rowid", "words.rowid"
        fixed, given = "words MATCH ?", [matching(owner, wanted["words"])]
    elif mark := _rarest(wanted):
        source, number = "marks CROSS JOIN jobs ON jobs.number = marks.number", "marks.number"
        fixed, given = "marks.owner = ? AND marks.mark = ?", [owner, mark]
    elif "batch_id" in wanted:
        batch = "(SELECT number FROM batches WHERE batch_id = ? AND owner = ?)"
        fixed, given = f"batch_rows.batch = {batch}", [wanted["batch_id"], owner]
        source, number = "batch_rows JOIN jobs ON jobs.number = batch_rows.job", "batch_rows.job"
    elif "tag" in wanted:
        fixed, given = "tags.owner = ? AND tags.tag = ?", [owner, wanted["tag"]]
        source, number = "tags JOIN jobs ON jobs.number = tags.number", "tags.number"
    elif "model" in wanted:
        fixed, given = "jobs.owner = ? AND jobs.model = ?", [owner, wanted["model"]]
        source, number = "jobs", "jobs.number"
    else:
        fixed, given = "jobs.owner = ?", [owner]
        if "style_id" in wanted:
            fixed, given = f"{fixed} AND jobs.style_id = ?", [*given, wanted["style_id"]]
        source, number = "jobs", "jobs.number"
        statuses = [*wanted.get("statuses", [])] or statuses
    if "batch_id" in wanted and not source.startswith("batch_rows"):
        mine = "SELECT number FROM batches WHERE batch_id = ? AND owner = ?"
        fixed += f" AND EXISTS (SELECT 1 FROM batch_rows WHERE job = {number} AND batch = ({mine}))"
        given += [wanted["batch_id"], owner]
    columns = ", ".join(f"jobs.{name}" for name in COLUMNS)
    parts: list[str] = []
    values: list[Any] = []
    for status in statuses:
        terms = fixed if status is None else f"{fixed} AND jobs.status = ?"
        parts.append(
            f"SELECT {columns} FROM {source} WHERE {terms} AND {number} >= ? AND {number} < ?"
        )
        values += [*given, *([] if status is None else [status]), low, high]
    way = "DESC" if after is None else "ASC"
    order_by = number if len(parts) == 1 else "number"
    return f"{' UNION ALL '.join(parts)} ORDER BY {order_by} {way}", values


def bounds(
    wanted: JobFilter | BatchFilter, *, before: int | None, after: int | None
) -> tuple[int, int]:
    """Numbers from the first up to the second are those that the filter's times and the cursor allow."""
    low = max((after or -1) + 1, math.ceil(wanted.get("created_after", 0) * 1e6))
    high = min(before or LAST, math.ceil(min(wanted.get("created_before", LAST), LAST / 1e6) * 1e6))
    return low, high


def matches(row: sqlite3.Row, wanted: JobFilter) -> bool:
    """The row passes the filters that `listing` leaves open."""
    statuses, style_id = wanted.get("statuses"), wanted.get("style_id")
    if wanted.get("model", row["model"]) != row["model"]:
        return False
    if (not statuses or row["status"] in statuses) and style_id in (None, row["style_id"]):
        if wanted.keys() & MARKS and not fits(_marks(row), wanted):
            return False
        # A tag that is wanted alone, or with what the row says itself, is what the walk goes along.
        columns = {"statuses", "style_id", "model", "created_after", "created_before"}
        alone = wanted.keys() <= {"tag", *columns}
        return "tag" not in wanted or alone or wanted["tag"] in _labels(row)["tags"]
    return False


def _rarest(wanted: JobFilter) -> str | None:
    """Which mark to walk along; None: most jobs may have what is wanted."""
    if wanted.get("starred"):
        return "starred"
    if rating := wanted.get("rating"):
        return f"rated {rating}"
    return "rejected" if wanted.get("rejected") else None


def _marks(row: sqlite3.Row) -> list[Mark]:
    """Of each image; a job without any counts as one without marks."""
    marks = _labels(row).get("marks", {})
    return [marks.get(str(image["index"]), Mark()) for image in from_json(row["images"])] or [
        Mark()
    ]


def _labels(row: sqlite3.Row) -> Labels:
    return json.loads(row["labels"])
