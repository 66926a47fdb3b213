"""Routes of jobs: order, list, read, change, cancel, retry, delete.

Knows nothing of how a job is resolved, stored, launched or rendered.
"""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from serve_app.api.changes import ChangeRequest
from serve_app.api.headers import life_seconds, wait_seconds
from serve_app.api.listing import JobList, JobQuery
from serve_app.api.once import query_once
from serve_app.api.openapi import (
    FINAL,
    FINAL_OR_ESTIMATE,
    JOB_HEADERS,
    NOT_MODIFIED,
    SUBMIT_HEADERS,
    problems,
)
from serve_app.api.replies import JobStatusResponse
from serve_app.api.routes.answers import accepted, current
from serve_app.api.routes.inputs import (
    CancelAfter,
    Client,
    IdempotencyKey,
    JobId,
    Owner,
    Prefer,
    Root,
    Service,
)
from serve_app.api.schemas import DeriveRequest, GenerateRequest
from serve_app.api.service import JobService
from serve_app.messages import JobView

log = logging.getLogger("assets.api")
router = APIRouter(tags=["jobs"])


@router.post(
    "/v1/generate",
    operation_id="order_images",
    summary="Order images",
    status_code=202,
    response_model=JobStatusResponse,
    response_description="Accepted: the job is on disk and will not be lost.",
    responses=SUBMIT_HEADERS
    | FINAL_OR_ESTIMATE
    | problems(400, 401, 408, 410, 413, 415, 422, 429, 503),
)
async def generate(
    body: GenerateRequest,
    service: Service,
    owner: Owner,
    client: Client,
    root: Root,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """Queues one job and answers at once; watch it under `Location`."""
    wait, life = wait_seconds(prefer), life_seconds(cancel_after)
    if body.dry_run:
        estimate = await service.estimate(body, owner, client)
        return Response(estimate.model_dump_json(), 200, media_type="application/json")
    job, replayed = await service.order(
        body, owner=owner, client=client, life_s=life, key=idempotency_key
    )
    log.debug("job accepted", extra={"job_id": job["job_id"]})
    job, waited = await held(service, job, wait, client)
    return accepted(service.texts, job, root, replayed=replayed, waited=waited)


@router.get(
    "/v1/jobs",
    operation_id="list_jobs",
    summary="List your jobs",
    response_description="A page, newest first.",
    dependencies=[Depends(query_once)],
    responses=problems(400, 401, 422, 503),
)
async def jobs(
    query: Annotated[JobQuery, Query()], service: Service, owner: Owner, root: Root
) -> JobList:
    """A cursor stays right while jobs arrive: follow `next` and each job comes once."""
    return await service.page(query, owner, root)


@router.get(
    "/v1/jobs/{job_id}",
    operation_id="get_job",
    summary="See how a job is",
    response_model=JobStatusResponse,
    response_description="The job, at most a second old.",
    responses=JOB_HEADERS | NOT_MODIFIED | problems(400, 401, 404, 410, 422, 503),
)
async def job(
    job_id: JobId,
    service: Service,
    owner: Owner,
    client: Client,
    root: Root,
    if_none_match: Annotated[
        str | None, Header(description="The last `ETag`.", examples=['W/"3.117"'])
    ] = None,
    prefer: Prefer = None,
) -> Response:
    """Poll no sooner than `Retry-After` says, with `If-None-Match`: what did not change is a 304."""
    wait = wait_seconds(prefer)
    found, waited = await held(service, await service.job(job_id, owner), wait, client)
    return current(service.texts, found, root, if_none_match, waited)


@router.patch(
    "/v1/jobs/{job_id}",
    operation_id="change_job",
    summary="Mark a job's images, or change its tags or priority",
    response_model=JobStatusResponse,
    response_description="The job as it is now.",
    responses=JOB_HEADERS | problems(400, 401, 404, 408, 409, 410, 413, 415, 422, 503),
)
async def change(
    job_id: JobId, body: ChangeRequest, service: Service, owner: Owner, root: Root
) -> Response:
    """Its pixels stay as they are. A priority can change only while the job waits in line. Safe to repeat."""
    return current(service.texts, await service.change(job_id, body, owner), root)


@router.post(
    "/v1/jobs/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_model=JobStatusResponse,
    response_description="The job, which has ended now, if it had not before.",
    responses=JOB_HEADERS | problems(400, 401, 404, 410, 503),
)
async def cancel(job_id: JobId, service: Service, owner: Owner, root: Root) -> Response:
    """Frees the device within one step. A job that has ended stays as it is."""
    return current(service.texts, await service.cancel(job_id, owner), root)


@router.post(
    "/v1/jobs/{job_id}/retry",
    operation_id="retry_job",
    summary="Order a job again",
    status_code=202,
    response_model=JobStatusResponse,
    response_description="A new job with the same order, seed included.",
    responses=SUBMIT_HEADERS | FINAL | problems(400, 401, 404, 409, 410, 422, 429, 503),
)
async def retry(
    job_id: JobId,
    service: Service,
    owner: Owner,
    client: Client,
    root: Root,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """The old job stays as it is; the new one names it in `retry_of`."""
    wait, life = wait_seconds(prefer), life_seconds(cancel_after)
    found, replayed = await service.again(job_id, owner=owner, life_s=life, key=idempotency_key)
    found, waited = await held(service, found, wait, client)
    return accepted(service.texts, found, root, replayed=replayed, waited=waited)


@router.post(
    "/v1/jobs/{job_id}/derive",
    operation_id="derive_job",
    summary="Finish pictures again",
    status_code=202,
    response_model=JobStatusResponse,
    response_description="A new job that needs no renderer.",
    responses=SUBMIT_HEADERS
    | FINAL
    | problems(400, 401, 404, 408, 409, 410, 413, 415, 422, 429, 503),
)
async def derive(
    job_id: JobId,
    body: DeriveRequest,
    service: Service,
    owner: Owner,
    client: Client,
    root: Root,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """Effects on what a job has drawn, or on what another derive made of it; no GPU works for it. The new job
    names this one in `derived_from`."""
    wait, life = wait_seconds(prefer), life_seconds(cancel_after)
    job, replayed = await service.derive(
        job_id, body, owner=owner, client=client, life_s=life, key=idempotency_key
    )
    job, waited = await held(service, job, wait, client)
    return accepted(service.texts, job, root, replayed=replayed, waited=waited)


@router.post(
    "/v1/jobs/{job_id}/reproduce",
    operation_id="reproduce_job",
    summary="Make a job's images again, and compare",
    status_code=202,
    response_model=JobStatusResponse,
    response_description="A new job; its images say in `reproduction` how they compare.",
    responses=SUBMIT_HEADERS | FINAL | problems(400, 401, 404, 409, 410, 422, 429, 503),
)
async def reproduce(
    job_id: JobId,
    service: Service,
    owner: Owner,
    client: Client,
    root: Root,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """Same order, same seeds, with the weights that are served now. The new job names this one in
    `reproduces`, and has no tags."""
    wait, life = wait_seconds(prefer), life_seconds(cancel_after)
    job, replayed = await service.reproduce(
        job_id, owner=owner, client=client, life_s=life, key=idempotency_key
    )
    job, waited = await held(service, job, wait, client)
    return accepted(service.texts, job, root, replayed=replayed, waited=waited)


@router.delete(
    "/v1/jobs/{job_id}",
    operation_id="delete_job",
    summary="Delete a job and its files",
    status_code=204,
    response_class=Response,
    response_description="Gone. A job that still lived was cancelled first.",
    responses=problems(400, 401, 404, 410, 503),
)
async def delete(job_id: JobId, service: Service, owner: Owner) -> Response:
    """There is no way back. Asking for the job afterwards is 410."""
    await service.delete(job_id, owner)
    return Response(status_code=204)


async def held(
    service: JobService, job: JobView, wait: int | None, client: str
) -> tuple[JobView, int | None]:
    """The job when it is final or the wait is over, and the wait if it was granted."""
    if wait is None:
        return job, None
    job, granted = await service.watching.until_final(job, wait, client)
    return job, wait if granted else None
