"""Routes of event streams: one job, or all jobs of an owner.

Knows paths and parameters; `streams/` makes the events.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response

from serve_app.api.headers import last_revision
from serve_app.api.openapi import EVENTS, problems
from serve_app.api.routes.inputs import JobId, Owner, Preview, Service

router = APIRouter(tags=["jobs"])


@router.get(
    "/v1/events",
    summary="Watch all your jobs",
    response_class=Response,
    responses=EVENTS | problems(400, 401, 422, 503),
)
async def all_events(
    service: Service,
    owner: Owner,
    preview: Preview = False,
    last_event_id: Annotated[
        str | None, Header(description="The last `id` that was read.", examples=["3.117"])
    ] = None,
) -> Response:
    """Begins with the jobs that live. When it ends, connect again."""
    return await service.events(owner, last_revision(last_event_id), preview=preview)


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="Watch a job",
    response_class=Response,
    responses=EVENTS | problems(400, 401, 404, 410, 422, 503),
)
async def events(
    job_id: JobId, service: Service, owner: Owner, preview: Preview = False
) -> Response:
    """Begins with the job as it is and ends when it has ended. Cut off: connect again, nothing is lost."""
    return service.watching.of_job(await service.job(job_id, owner), preview=preview)
