"""Routes of finished files.

Knows their path; `output` decides which files are served.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from serve_app.api.openapi import FILES, NOT_MODIFIED, problems
from serve_app.api.replies import IMAGE_URL
from serve_app.api.routes.inputs import Service

router = APIRouter(tags=["files"])


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
    return await service.files.get_response(path, request.scope)
