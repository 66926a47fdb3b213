"""Routes of pictures that are brought, to be ordered with.

Takes the file as the body. Knows nothing of formats, nor of how uploads are kept.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from serve_app.api.inspection import MEDIA_TYPES
from serve_app.api.openapi import UPLOADED, problems
from serve_app.api.routes.inputs import Owner, Root, Service
from serve_app.api.uploads import UPLOAD_ID, UploadReply

PATH = "/v1/uploads"
router = APIRouter(tags=["files"])

_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
UploadId = Annotated[str, Path(description="From POST /v1/uploads.", examples=[UPLOAD_ID])]


@router.post(
    PATH,
    operation_id="upload_picture",
    summary="Bring a picture to order with",
    status_code=201,
    response_model=UploadReply,
    response_description="It is kept, and on disk.",
    responses=UPLOADED | problems(400, 401, 408, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(MEDIA_TYPES, _FILE)}},
)
async def upload(
    request: Request, response: Response, service: Service, owner: Owner, root: Root
) -> UploadReply:
    """The body is the file itself: PNG, WebP or JPEG, of one frame. Its pixels are kept, upright and in sRGB,
    and nothing else of it. The same pixels again are the same upload, which then lives longer."""
    found, known = await service.pictures.take(await request.body(), owner)
    response.headers["Location"] = f"{root}{PATH}/{found.upload_id}"
    if known:
        response.status_code = 200
    return found


@router.get(
    PATH + "/{upload_id}",
    operation_id="show_upload",
    summary="Look at an upload",
    response_description="What is kept.",
    responses=problems(400, 401, 404),
)
async def show(upload_id: UploadId, service: Service, owner: Owner) -> UploadReply:
    """Somebody else's is as unknown as one that has expired."""
    return await service.pictures.show(upload_id, owner)


@router.delete(
    PATH + "/{upload_id}",
    operation_id="delete_upload",
    summary="Delete an upload",
    status_code=204,
    response_class=Response,
    response_description="It is gone.",
    responses=problems(400, 401, 404),
)
async def delete(upload_id: UploadId, service: Service, owner: Owner) -> None:
    """Jobs that were ordered with it are drawn all the same. Its file goes when the last of them has
    ended."""
    await service.pictures.forget(upload_id, owner)
