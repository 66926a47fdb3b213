"""Routes of finished files, and of the list of all of them.

Knows their path; `output` decides which files are served.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from serve_app.api.ledger import LedgerQuery, ledger
from serve_app.api.once import query_once
from serve_app.api.openapi import CSV, FILES, NOT_MODIFIED, problems
from serve_app.api.replies import IMAGE_URL
from serve_app.api.routes.inputs import Owner, Service

router = APIRouter(tags=["files"])


@router.get(
    "/v1/ledger",
    operation_id="get_ledger",
    summary="List every published file with how it was made",
    response_class=Response,
    response_description="CSV: hashes, prompt, model, style, effects and a sentence for a store's form.",
    responses=CSV | problems(400, 401, 422, 503),
    dependencies=[Depends(query_once)],
)
async def get_ledger(
    query: Annotated[LedgerQuery, Query()], service: Service, owner: Owner
) -> Response:
    """What is deleted is not in it any more. It is made while it is sent."""
    pieces = ledger(query, service, owner)
    first = await anext(pieces)  # while an error can still be said

    async def table() -> AsyncGenerator[str]:
        yield first
        async for piece in pieces:
            yield piece

    headers = {
        "Content-Disposition": 'attachment; filename="ledger.csv"',
        "Cache-Control": "no-store",
    }
    return StreamingResponse(table(), headers=headers, media_type="text/csv; charset=utf-8")


@router.get(
    "/output/{path:path}",
    operation_id="fetch_file",
    summary="Fetch a finished file",
    response_class=Response,
    response_description="The file. It never changes.",
    responses=FILES | NOT_MODIFIED | problems(400, 404, 416, 422),
)
async def output(
    path: Annotated[
        str,
        Path(description="From `result_urls`.", examples=[IMAGE_URL.removeprefix("/output/")]),
    ],
    request: Request,
    service: Service,
    thumb: Annotated[
        Literal["128", "256", "512"] | None,
        Query(
            description="A small look instead, as WebP: pixels of its longer side. A picture that is no "
            "larger comes as it is.",
            examples=["256"],
        ),
    ] = None,
) -> Response:
    """Needs no key: the URL holds a job id that cannot be guessed, so whoever has it may fetch it."""
    if thumb is not None:
        return await service.thumbnails.response(path, int(thumb), request.scope)
    return await service.files.response(path, request.scope)
