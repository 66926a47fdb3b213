"""A job as a row of the table `jobs`, and back.

Knows the columns, and what of a job is not stored; runs no SQL.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from pydantic_core import from_json

from serve_app.jobs.job import Job, Status
from serve_app.messages import Summary


def to_row(job: Job, params: str | None = None, labels: str | None = None) -> dict[str, Any]:
    """The values of `COLUMNS` for a new job. It is live, so `ended` is null. `params`, `labels`: the job's,
    if somebody has written them as JSON already."""
    return {
        **job.summary,
        "number": job.number,
        "job_id": job.job_id,
        "owner": job.owner,
        "status": job.status.value,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "deadline": job.deadline,
        "fence": job.fence,
        "attempts": job.attempts,
        "alone": job.alone,
        "ended": None,
        "client": job.client,
        "priority": job.priority,
        "labels": json.dumps(job.labels) if labels is None else labels,
        "params": json.dumps(job.params) if params is None else params,
        "extra_files": job.summary.get("extra_files", False),
        "images": json.dumps(job.images) if job.images else "[]",
        "error": json.dumps(job.error) if job.error else "null",
        "troubles": json.dumps(job.troubles) if job.troubles else "{}",
    }


def from_row(row: sqlite3.Row) -> Job:
    # hot: a page is up to 500 rows. `from_json` is faster than `json.loads`, but stricter: it may refuse what
    # a client put into its metadata, so labels and errors are read by the module that wrote them.
    return Job(
        job_id=row["job_id"],
        owner=row["owner"],
        params=from_json(row["params"]),
        summary=Summary(
            kind=row["kind"],
            pool=row["pool"],
            model=row["model"],
            model_revision=row["model_revision"],
            style_id=row["style_id"],
            seed=row["seed"],
            n=row["n"],
            work=row["work"],
            extra_files=bool(row["extra_files"]),
        ),
        labels=json.loads(row["labels"]),
        created_at=row["created_at"],
        number=row["number"],
        deadline=row["deadline"],
        status=Status(row["status"]),
        fence=row["fence"],
        attempts=row["attempts"],
        alone=bool(row["alone"]),
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        images=tuple(from_json(row["images"])),
        error=json.loads(row["error"]),
        troubles=from_json(row["troubles"]),
    )
