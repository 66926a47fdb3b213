"""The query behind one page of a list of jobs, and one that the store and its copies share.

Knows columns and indexes; it only makes SQL text and runs nothing.
"""

from __future__ import annotations

import json
import math
import sqlite3
from typing import Any

from serve_app.jobs.store.schema import COLUMNS, LIVE
from serve_app.messages import BatchFilter, JobFilter

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
    walks one index: of the batch, else of the tag, else of style and status. Several statuses are as many
    walks, merged. What the index does not filter, `matches` must."""
    low, high = bounds(wanted, before=before, after=after)
    statuses: list[str | None] = [None]
    if "batch_id" in wanted:
        batch = "(SELECT number FROM batches WHERE batch_id = ? AND owner = ?)"
        fixed, given = f"batch_rows.batch = {batch}", [wanted["batch_id"], owner]
        source, number = "batch_rows JOIN jobs ON jobs.number = batch_rows.job", "batch_rows.job"
    elif "tag" in wanted:
        fixed, given = "tags.owner = ? AND tags.tag = ?", [owner, wanted["tag"]]
        source, number = "tags JOIN jobs ON jobs.number = tags.number", "tags.number"
    else:
        fixed, given = "jobs.owner = ?", [owner]
        if "style_id" in wanted:
            fixed, given = f"{fixed} AND jobs.style_id = ?", [*given, wanted["style_id"]]
        source, number = "jobs", "jobs.number"
        statuses = [*wanted.get("statuses", [])] or statuses
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
    if (not statuses or row["status"] in statuses) and style_id in (None, row["style_id"]):
        # Of a batch and a tag, the walk is along the batch.
        return not {"batch_id", "tag"} <= wanted.keys() or wanted.get("tag") in _tags(row)
    return False


def _tags(row: sqlite3.Row) -> list[str]:
    return json.loads(row["labels"])["tags"]
