"""hook_body: what a webhook is told of a job: a few facts, and links to all else.

Knows the body's fields; nothing of URLs that are called, nor of when. Receivers refuse large bodies, so no
picture and no prompt is in it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import quote

from serve_app.hook_events import TEST
from serve_app.jobs.job import Job
from serve_app.messages import Webhook

MOST_URLS = 100
"""Of results. A sheet may have more pages; the job has them all."""


def hook_body(job: Job, event: str, hook: Webhook) -> str:
    """JSON, in the shape of Standard Webhooks: `type`, `timestamp` (of the event), `data`."""
    root, labels = hook["root"], job.labels
    own = f"{root}/v1/jobs/{job.job_id}"
    at = job.completed_at or job.started_at or job.created_at
    data: dict[str, object] = {
        "job_id": job.job_id,
        "kind": job.summary["kind"],
        "status": job.status.value,
        "tags": labels["tags"],
        "metadata": labels["metadata"],
        "retry_of": labels["retry_of"],
        "derived_from": labels.get("derived_from"),
        "error": None if job.error is None else {**job.error},
        "result_urls": [f"{root}/output/{quote(i['path'])}" for i in job.images[:MOST_URLS]],
        "urls": {"self": own, "events": f"{own}/events"},
    }
    return _body(f"job.{event}", at, data)


def test_body(at: float) -> str:
    """Of a call that somebody asked for. `at`: unix seconds."""
    return _body(TEST, at, {"message": "This is a test. No job is behind it."})


def _body(kind: str, at: float, data: dict[str, object]) -> str:
    moment = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"type": kind, "timestamp": moment, "data": data})
