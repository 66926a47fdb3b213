"""The routes: parse, call, return. What each may answer is declared beside it.

Knows nothing of how a job is resolved, stored, launched or rendered.
"""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from serve_app.api.catalog import Capabilities, ModelList, StyleList
from serve_app.api.headers import LONGEST_WAIT_S, client_name, life_seconds, wait_seconds
from serve_app.api.listing import JobList, JobQuery
from serve_app.api.openapi import (
    EVENTS,
    FILES,
    FINAL_OR_ESTIMATE,
    JOB_HEADERS,
    NOT_MODIFIED,
    SUBMIT_HEADERS,
    problems,
)
from serve_app.api.replies import IMAGE_URL, JOB_ID, Health, JobStatusResponse
from serve_app.api.schemas import GenerateRequest
from serve_app.api.service import JobBoard, parse_rev
from serve_app.errors import Unavailable
from serve_app.messages import JobView

log = logging.getLogger("assets.api")
router = APIRouter()


# Async although they wait for nothing: FastAPI sends plain functions through a thread, on every request.
async def board_of(request: Request) -> JobBoard:
    return request.app.state.board


async def owner_of(request: Request) -> str:
    return request.state.owner


Board = Annotated[JobBoard, Depends(board_of)]
Owner = Annotated[str, Depends(owner_of)]


IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Printable ASCII, yours to choose. The same key and body again answers with "
        "the same job as it is by then; another body is 422.",
        examples=["6f1c1a52-level3-potion"],
    ),
]
Prefer = Annotated[
    str | None,
    Header(
        description=f"`wait=N` holds the answer until the job is final or N seconds are over, at most "
        f"{LONGEST_WAIT_S}.",
        examples=["wait=10"],
    ),
]
JobId = Annotated[str, Path(description="From POST /v1/generate.", examples=[JOB_ID])]
Preview = Annotated[
    bool,
    Query(
        description="Also send small looks at what is being drawn, as `preview` events.",
        examples=[True],
    ),
]


@router.post(
    "/v1/generate",
    summary="Order images",
    tags=["jobs"],
    status_code=202,
    response_model=JobStatusResponse,
    response_description="Accepted: the job is on disk and will not be lost.",
    responses=SUBMIT_HEADERS | FINAL_OR_ESTIMATE | problems(400, 401, 410, 413, 415, 422, 429, 503),
)
async def generate(
    body: GenerateRequest,
    board: Board,
    owner: Owner,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    cancel_after: Annotated[
        str | None,
        Header(
            description="Revoke the job if it is not done by then: seconds, or like `90s`, `1h30m`.",
            examples=["15m"],
        ),
    ] = None,
    x_client_id: Annotated[
        str | None,
        Header(
            description="Where no API keys are used: whom to count the job for, so that each client "
            "gets a fair share.",
            examples=["level-editor"],
        ),
    ] = None,
) -> Response:
    """Queues one job and answers at once; watch it under `Location`."""
    wait, life = wait_seconds(prefer), life_seconds(cancel_after)
    keys = board.settings.api_keys_file is not None
    client = client_name(x_client_id, owner, keys=keys)
    if body.dry_run:
        estimate = await board.estimate(body, client)
        return Response(estimate.model_dump_json(), 200, media_type="application/json")
    job, replayed = await board.order(
        body, owner=owner, client=client, life_s=life, key=idempotency_key
    )
    log.info("job accepted", extra={"job_id": job["job_id"]})
    job, waited = await held(board, job, wait)
    return board.accepted(job, replayed=replayed, waited=waited)


@router.get(
    "/v1/jobs",
    summary="List your jobs",
    tags=["jobs"],
    response_description="A page, newest first.",
    responses=problems(400, 401, 422, 503),
)
async def jobs(query: Annotated[JobQuery, Query()], board: Board, owner: Owner) -> JobList:
    """A cursor stays right while jobs arrive: follow `next` and each job comes once."""
    return await board.page(query, owner)


@router.get(
    "/v1/events",
    summary="Watch all your jobs",
    tags=["jobs"],
    response_class=Response,
    responses=EVENTS | problems(400, 401, 422, 503),
)
async def all_events(
    board: Board,
    owner: Owner,
    preview: Preview = False,
    last_event_id: Annotated[
        str | None, Header(description="The last `id` that was read.", examples=["3.117"])
    ] = None,
) -> Response:
    """Begins with the jobs that live. When it ends, connect again."""
    return await board.events(owner, parse_rev(last_event_id), preview=preview)


@router.get(
    "/v1/jobs/{job_id}",
    summary="See how a job is",
    tags=["jobs"],
    response_model=JobStatusResponse,
    response_description="The job, at most a second old.",
    responses=JOB_HEADERS | NOT_MODIFIED | problems(400, 401, 404, 410, 422, 503),
)
async def job(
    job_id: JobId,
    board: Board,
    owner: Owner,
    if_none_match: Annotated[
        str | None, Header(description="The last `ETag`.", examples=['W/"3.117"'])
    ] = None,
    prefer: Prefer = None,
) -> Response:
    """Poll no sooner than `Retry-After` says, with `If-None-Match`: what did not change is a 304."""
    wait = wait_seconds(prefer)
    found, waited = await held(board, await board.job(job_id, owner), wait)
    return board.shown(found, if_none_match, waited)


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="Watch a job",
    tags=["jobs"],
    response_class=Response,
    responses=EVENTS | problems(400, 401, 404, 410, 422, 503),
)
async def events(job_id: JobId, board: Board, owner: Owner, preview: Preview = False) -> Response:
    """Begins with the job as it is and ends when it has ended. Cut off: connect again, nothing is lost."""
    return board.watching.of_job(await board.job(job_id, owner), preview=preview)


@router.post(
    "/v1/jobs/{job_id}/cancel",
    summary="Cancel a job",
    tags=["jobs"],
    response_model=JobStatusResponse,
    response_description="The job, which has ended now, if it had not before.",
    responses=JOB_HEADERS | problems(400, 401, 404, 410, 503),
)
async def cancel(job_id: JobId, board: Board, owner: Owner) -> Response:
    """Frees the device within one step. A job that has ended stays as it is."""
    return board.shown(await board.cancel(job_id, owner))


@router.post(
    "/v1/jobs/{job_id}/retry",
    summary="Order a job again",
    tags=["jobs"],
    status_code=202,
    response_model=JobStatusResponse,
    response_description="A new job with the same order, seed included.",
    responses=SUBMIT_HEADERS | problems(400, 401, 404, 409, 410, 422, 429, 503),
)
async def retry(
    job_id: JobId, board: Board, owner: Owner, idempotency_key: IdempotencyKey = None
) -> Response:
    """The old job stays as it is; the new one names it in `retry_of`."""
    found, replayed = await board.again(job_id, owner, idempotency_key)
    return board.accepted(found, replayed=replayed)


@router.delete(
    "/v1/jobs/{job_id}",
    summary="Delete a job and its files",
    tags=["jobs"],
    status_code=204,
    response_class=Response,
    response_description="Gone. A job that still lived was cancelled first.",
    responses=problems(400, 401, 404, 410, 503),
)
async def delete(job_id: JobId, board: Board, owner: Owner) -> Response:
    """There is no way back. Asking for the job afterwards is 410."""
    await board.delete(job_id, owner)
    return Response(status_code=204)


async def held(board: JobBoard, job: JobView, wait: int | None) -> tuple[JobView, int | None]:
    """The job once it is final or the wait is over, and the wait if it was granted."""
    if wait is None:
        return job, None
    job, granted = await board.watching.until_final(job, wait)
    return job, wait if granted else None


@router.get(
    "/output/{path:path}",
    summary="Fetch a finished file",
    tags=["files"],
    response_class=Response,
    response_description="The file. It never changes.",
    responses=FILES | NOT_MODIFIED | problems(400, 404),
)
async def output(
    path: Annotated[
        str,
        Path(description="From `result_urls`.", examples=[IMAGE_URL.removeprefix("/output/")]),
    ],
    request: Request,
    board: Board,
) -> Response:
    """Needs no key: the URL holds a job id that cannot be guessed, so whoever has it may fetch it."""
    return await board.files.get_response(path, request.scope)


router.add_api_route("/output/{path:path}", output, methods=["HEAD"], include_in_schema=False)


@router.get(
    "/v1/styles",
    summary="List the styles",
    tags=["catalog"],
    response_description="Every style of this server.",
    responses=problems(400, 401),
)
async def styles(board: Board) -> StyleList:
    """What `style_id` of an order may name."""
    return board.catalog.styles


@router.get(
    "/v1/models",
    summary="List the models",
    tags=["catalog"],
    response_description="Every model this server knows.",
    responses=problems(400, 401),
)
async def models(board: Board) -> ModelList:
    """What `model` of an order may name, and what each allows."""
    return board.catalog.models


@router.get(
    "/v1/capabilities",
    summary="See limits and features",
    tags=["catalog"],
    response_description="What this server can do.",
    responses=problems(400, 401),
)
async def capabilities(board: Board) -> Capabilities:
    """Limits of one order, and which features this version has."""
    return board.catalog.capabilities


@router.get(
    "/healthz",
    summary="Is the process alive",
    tags=["health"],
    response_description="It answers.",
    responses=problems(400),
)
async def healthz() -> Health:
    """Says nothing of whether a job would be served: see /readyz."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Would a job be served",
    tags=["health"],
    response_description="It would.",
    responses=problems(400, 503),
)
async def readyz(board: Board) -> Health:
    """503 with the reason while the registry or every renderer is away."""
    if reason := await board.registry.readiness():
        raise Unavailable(reason)
    return Health(status="ok")
