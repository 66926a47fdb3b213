"""Route of files that are brought: what made them.

Takes the file as the body. Knows nothing of formats.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from serve_app.api.inspection import MEDIA_TYPES, InspectReply
from serve_app.api.openapi import problems
from serve_app.api.routes.inputs import Owner, Service

PATH = "/v1/inspect"
router = APIRouter(tags=["files"])

_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


@router.post(
    PATH,
    operation_id="inspect_file",
    summary="See what made a picture",
    response_description="What the file says of itself.",
    responses=problems(400, 401, 408, 413, 415, 422),
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(MEDIA_TYPES, _FILE)}},
)
async def inspect(request: Request, service: Service, owner: Owner) -> InspectReply:
    """The body is the file itself: PNG, WebP or JPEG. Nothing is kept, and nothing that it points to is
    fetched. Reads this service's own files, and those of the programs that `recipe.program` lists."""
    return await service.inspect(await request.body(), owner)
