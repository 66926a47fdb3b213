"""OpenAI's image interface: its orders become jobs of ours, and its answers come of those jobs.

Knows its routes and how it words errors; `openai_bodies.py` knows its fields.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from serve_app.api.dialects.held import until_end
from serve_app.api.dialects.openai_bodies import (
    NO_TOKENS,
    GeneratedImage,
    ImagesReply,
    ImagesRequest,
    described,
    reworded,
)
from serve_app.api.dialects.openai_form import FORM, FormFile, edit_of
from serve_app.api.dialects.openai_stream import Sending, streamed
from serve_app.api.dialects.pictures import read_pictures
from serve_app.api.dialects.wording import Dialect
from serve_app.api.openapi import Responses
from serve_app.api.replies import ImageReply
from serve_app.api.routes.inputs import Client, Owner, Root, Service
from serve_app.api.schemas import GenerateRequest
from serve_app.api.service import JobService
from serve_app.artifacts.folder import output_at
from serve_app.errors import InvalidField

log = logging.getLogger("assets.api")

ERRORS: Responses = {
    "default": {
        "description": "As OpenAI words errors: `error` with `message`, `type`, `param` and `code`.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
EDITS = "/v1/images/edits"
DIALECT = Dialect("/v1/images/", reworded, {EDITS: ("multipart/form-data",)})
router = APIRouter(tags=["openai"])
ROUTERS = (router,)


@router.post(
    "/v1/images/generations",
    operation_id="generate_images_for_openai",
    summary="Draw, for OpenAI's clients",
    response_model=ImagesReply,
    response_model_exclude_none=True,
    response_description="The pictures; with `stream`, events.",
    responses=ERRORS,
)
async def generations(
    body: ImagesRequest,
    request: Request,
    service: Service,
    owner: Owner,
    client: Client,
    root: Root,
) -> Response:
    """Orders a job, and answers when it has ended. If the client leaves, the job is cancelled."""
    asked = Asked(request, service, owner, client, root)
    return await _drawn(asked, body, body.order(service), "image_generation")


@router.post(
    EDITS,
    operation_id="edit_images_for_openai",
    summary="Draw from a picture, for OpenAI's clients",
    response_model=ImagesReply,
    response_model_exclude_none=True,
    response_description="The pictures; with `stream`, events.",
    responses=ERRORS,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": FORM}}},
)
async def edits(
    request: Request, service: Service, owner: Owner, client: Client, root: Root
) -> Response:
    """As generations, from the picture `image`; with a `mask`, only where that is transparent."""
    body, files = await edit_of(request)
    more = {field: await _upload(service, owner, file) for field, file in files.items()}
    asked = Asked(request, service, owner, client, root)
    return await _drawn(asked, body, body.order(service, **more), "image_edit")


async def _upload(service: JobService, owner: str, file: FormFile) -> dict[str, str]:
    """What an order names the picture by. Raises InvalidField."""
    try:
        found, _ = await service.pictures.take(file.data, owner)
    except InvalidField as error:
        detail = error.detail.removeprefix(f"{error.field}: ")
        raise InvalidField(file.field, detail, error.allowed) from error
    return {"upload_id": found.upload_id}


class Asked(NamedTuple):
    """Who asks, and where."""

    request: Request
    service: JobService
    owner: str
    client: str
    root: str


async def _drawn(
    asked: Asked, body: ImagesRequest, order: GenerateRequest, events: str
) -> Response:
    """`events`: how their types begin."""
    request, service, owner, client, root = asked
    packing = body.packing
    service.watching.refuse_without_seat(client)
    job, _ = await service.order(body=order, owner=owner, client=client, life_s=None, key=None)
    log.debug("job accepted", extra={"job_id": job["job_id"]})
    folder = output_at(service.settings.output_address)
    if body.stream:
        looks = body.partial_images or 0
        return streamed(service, job, client, Sending(folder, packing, looks, events))
    job = await until_end(service, request, job, client)
    images = sorted(job["images"], key=lambda image: image["index"])
    origin = str(request.base_url).removesuffix("/").removesuffix(root)
    if body.as_url:
        shown = [{"url": origin + ImageReply.of(image, root).url} for image in images]
    else:
        files = await asyncio.to_thread(read_pictures, folder, images, packing)
        shown = [{"b64_json": base64.b64encode(file).decode()} for file in files]
    reply = ImagesReply(
        created=int(job["completed_at"] or 0),
        data=[
            GeneratedImage(**where, revised_prompt=job["params"]["prompt"], seed=image["seed"])
            for where, image in zip(shown, images, strict=True)
        ],
        usage=NO_TOKENS,
        job_id=job["job_id"],
        notes=list(dict.fromkeys(note for image in images for note in image["notes"])),
        **described(job, packing),
    )
    return Response(reply.model_dump_json(exclude_none=True), media_type="application/json")
