"""The routes: parse, call, return. What each may answer is declared beside it.

Knows nothing of how a job is resolved, stored, launched or rendered.
"""

from __future__ import annotations

import logging
import time
from typing import Annotated

import uuid_utils
from fastapi import APIRouter, Depends, Header, Path, Request, Response

from serve_app.api.board import JobBoard
from serve_app.api.catalog import Capabilities, ModelList, StyleList
from serve_app.api.openapi import FILES, JOB_HEADERS, NOT_MODIFIED, SUBMIT_HEADERS, problems
from serve_app.api.problems import Refused
from serve_app.api.replies import IMAGE_URL, JOB_ID, Health, JobStatusResponse
from serve_app.api.schemas import GenerateRequest
from serve_app.api.submit import submit
from serve_app.errors import Unavailable
from serve_app.messages import SubmitOrder

log = logging.getLogger("assets.api")
router = APIRouter()


# Async although they wait for nothing: FastAPI sends plain functions through a thread, on every request.
async def board_of(request: Request) -> JobBoard:
    return request.app.state.board


async def owner_of(request: Request) -> str:
    return request.state.owner


Board = Annotated[JobBoard, Depends(board_of)]
Owner = Annotated[str, Depends(owner_of)]


@router.post(
    "/v1/generate",
    summary="Order images",
    tags=["jobs"],
    status_code=202,
    response_model=JobStatusResponse,
    response_description="Accepted: the job is on disk and will not be lost.",
    responses=SUBMIT_HEADERS | problems(400, 401, 413, 415, 422, 429, 503),
)
async def generate(
    body: GenerateRequest,
    board: Board,
    owner: Owner,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=r"^[\x20-\x7e]+$",
            description="Printable ASCII, yours to choose. The same key and body again answers with "
            "the same job as it is by then; another body is 422.",
            examples=["6f1c1a52-level3-potion"],
        ),
    ] = None,
) -> Response:
    """Queues one job and answers at once; watch it under `Location`."""
    params = board.resolve(body.order())
    sent = SubmitOrder(
        job_id=str(uuid_utils.uuid7()),
        owner=owner,
        params=params.model_dump(),
        deadline=time.time() + board.settings.submit_timeout_s,
        idempotency_key=idempotency_key,
        body_hash=body.body_hash(),
    )
    reply = await submit(board.registry, sent, board.settings.submit_timeout_s)
    if "job" not in reply:
        assert "error" in reply
        raise Refused(reply["error"], reply.get("retry_after"))
    log.info("job accepted", extra={"job_id": reply["job"]["job_id"]})
    return board.accepted(reply["job"], replayed=reply.get("replayed", False))


@router.get(
    "/v1/jobs/{job_id}",
    summary="See how a job is",
    tags=["jobs"],
    response_model=JobStatusResponse,
    response_description="The job, at most a second old.",
    responses=JOB_HEADERS | NOT_MODIFIED | problems(400, 401, 404, 503),
)
async def job(
    job_id: Annotated[str, Path(description="From POST /v1/generate.", examples=[JOB_ID])],
    board: Board,
    owner: Owner,
    if_none_match: Annotated[
        str | None, Header(description="The last `ETag`.", examples=['W/"3.117"'])
    ] = None,
) -> Response:
    """Poll no sooner than `Retry-After` says, with `If-None-Match`: what did not change is a 304."""
    return board.shown(await board.job(job_id, owner), if_none_match)


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
