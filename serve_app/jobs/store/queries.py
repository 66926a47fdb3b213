"""The query behind one page of a list of jobs.

Knows columns and indexes; it only makes SQL text and runs nothing.
"""

from __future__ import annotations

import math
import sqlite3
from typing import Any

from serve_app.jobs.store.schema import COLUMNS
from serve_app.messages import JobFilter

LAST = 2**62
"""More than the number of any job."""


def listing(
    owner: str, wanted: JobFilter, *, before: int | None, after: int | None
) -> tuple[str, list[Any]]:
    """SQL, with its values, for the owner's jobs numbered below `before`, or above `after`, nearest first. It
    walks one index: of the tag, else of style and status. Several statuses are as many walks, merged. What
    the index does not filter, `matches` must."""
    low = max((after or -1) + 1, math.ceil(wanted.get("created_after", 0) * 1e6))
    high = min(before or LAST, math.ceil(min(wanted.get("created_before", LAST), LAST / 1e6) * 1e6))
    statuses: list[str | None] = [None]
    if "tag" in wanted:
        fixed = {"tags.owner": owner, "tags.tag": wanted["tag"]}
        source, number = "tags JOIN jobs ON jobs.number = tags.number", "tags.number"
    else:
        fixed = {"jobs.owner": owner}
        if "style_id" in wanted:
            fixed["jobs.style_id"] = wanted["style_id"]
        source, number = "jobs", "jobs.number"
        statuses = [*wanted.get("statuses", [])] or statuses
    columns = ", ".join(f"jobs.{name}" for name in COLUMNS)
    parts: list[str] = []
    values: list[Any] = []
    for status in statuses:
        equal = fixed if status is None else {**fixed, "jobs.status": status}
        terms = " AND ".join(f"{name} = ?" for name in equal)
        parts.append(
            f"SELECT {columns} FROM {source} WHERE {terms} AND {number} >= ? AND {number} < ?"
        )
        values += [*equal.values(), low, high]
    way = "DESC" if after is None else "ASC"
    order_by = number if len(parts) == 1 else "number"
    return f"{' UNION ALL '.join(parts)} ORDER BY {order_by} {way}", values


def matches(row: sqlite3.Row, wanted: JobFilter) -> bool:
    """The row passes the filters that `listing` leaves open."""
    statuses, style_id = wanted.get("statuses"), wanted.get("style_id")
    return (not statuses or row["status"] in statuses) and style_id in (None, row["style_id"])
