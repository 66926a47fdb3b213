"""Routes of event streams: one job, or all jobs of an owner.

Knows paths and parameters; `streams/` makes the events.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response

from serve_app.api.headers import last_revision
from serve_app.api.once import query_once
from serve_app.api.openapi import ALL_EVENTS, EVENTS, TOLD, problems
from serve_app.api.routes.inputs import Client, JobId, Owner, Preview, Root, Service
from serve_app.api.view import rev_of
from serve_app.messages import TERMINAL

router = APIRouter(tags=["jobs"])
LastEventId = Annotated[
    str | None, Header(description="The last `id` that was read.", examples=["3.117"])
]


@router.get(
    "/v1/events",
    operation_id="watch_jobs",
    summary="Watch all your jobs",
    response_class=Response,
    dependencies=[Depends(query_once)],
    responses=ALL_EVENTS | problems(400, 401, 422, 429, 503),
)
async def all_events(
    service: Service,
    owner: Owner,
    client: Client,
    root: Root,
    preview: Preview = False,
    last_event_id: LastEventId = None,
) -> Response:
    """Begins with the jobs and batches that live. When it ends, connect again."""
    return service.events(owner, client, last_revision(last_event_id), root, preview=preview)


@router.get(
    "/v1/jobs/{job_id}/events",
    operation_id="watch_job",
    summary="Watch a job",
    response_class=Response,
    dependencies=[Depends(query_once)],
    responses=EVENTS | TOLD | problems(400, 401, 404, 410, 422, 429, 503),
)
async def events(
    job_id: JobId,
    service: Service,
    owner: Owner,
    client: Client,
    root: Root,
    preview: Preview = False,
    last_event_id: LastEventId = None,
) -> Response:
    """Begins with the job as it is now, and ends when the job has ended. If the connection breaks, connect
    again: nothing is lost. A client that asks again after the end gets 204, which tells an `EventSource` to
    stop."""
    job = await service.job(job_id, owner)
    if job["status"] in TERMINAL and last_revision(last_event_id) == rev_of(job):
        return Response(status_code=204)
    return service.watching.of_job(job, client, root, preview=preview)
