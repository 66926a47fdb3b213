"""OpenAI's image interface: its orders become jobs of ours, and its answers come of those jobs.

Knows its routes and how it words errors; `openai_bodies.py` knows its fields.
"""

from __future__ import annotations

import asyncio
import base64
import logging

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
from serve_app.api.dialects.openai_stream import streamed
from serve_app.api.dialects.pictures import read_pictures
from serve_app.api.dialects.wording import Dialect
from serve_app.api.openapi import Responses
from serve_app.api.replies import ImageReply
from serve_app.api.routes.inputs import Client, Owner, Root, Service
from serve_app.artifacts.folder import OutputDir

log = logging.getLogger("assets.api")

ERRORS: Responses = {
    "default": {
        "description": "As OpenAI words errors: `error` with `message`, `type`, `param` and `code`.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
DIALECT = Dialect("/v1/images/", reworded)
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
    order, packing = body.order(service), body.packing
    service.watching.refuse_without_seat(client)
    job, _ = await service.order(body=order, owner=owner, client=client, life_s=None, key=None)
    log.debug("job accepted", extra={"job_id": job["job_id"]})
    folder = OutputDir(service.settings.path(service.settings.output_dir))
    if body.stream:
        return streamed(service, job, client, folder, packing, body.partial_images or 0)
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
