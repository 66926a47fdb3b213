"""AUTOMATIC1111's web UI: its orders become jobs of ours, and its answers come of those jobs.

Knows the routes that draw, look and stop; `a1111_lists.py` knows what the web UI lists, `a1111_bodies.py` its
fields. No body is ever logged.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from serve_app.api.dialects import a1111_lists
from serve_app.api.dialects.a1111_bodies import (
    TAG,
    Image2Image,
    ImagesAnswer,
    Text2Image,
    info_of,
    reworded,
    stamp_of,
)
from serve_app.api.dialects.a1111_lists import ERRORS, ROOT
from serve_app.api.dialects.held import until_end
from serve_app.api.dialects.pictures import Packing, read_pictures
from serve_app.api.dialects.wording import Dialect
from serve_app.api.routes.inputs import Client, Owner, Service
from serve_app.api.schemas import GenerateRequest
from serve_app.api.service import JobService
from serve_app.artifacts.folder import output_at
from serve_app.artifacts.inspection.inspect import inspect
from serve_app.errors import InvalidField
from serve_app.messages import JobFilter, JobView

LIVE = ["PENDING", "STARTED", "RETRY"]
MOST_LIVE = 100
_DATA_URL = "base64,"
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
    "none": Image.Resampling.LANCZOS,
}
LARGE = ("img2img", "png-info", "extra-single-image", "extra-batch-images")
DIALECT = Dialect(f"{ROOT}/", reworded, {f"{ROOT}/{name}": ("application/json",) for name in LARGE})
router = APIRouter(prefix=ROOT, tags=["a1111"], responses=ERRORS)
ROUTERS = (router, a1111_lists.router)


# ---- orders ----


@router.post("/txt2img", operation_id="draw_for_a1111", summary="Draw, for the web UI's clients")
async def txt2img(
    body: Text2Image, request: Request, service: Service, owner: Owner, client: Client
) -> ImagesAnswer:
    """Orders a job, and answers when it has ended. If the client leaves, the job is cancelled."""
    order, notes = body.order(service.catalog)
    return await _drawn(service, request, owner, client, order, notes, send=body.send_images)


@router.post(
    "/img2img",
    operation_id="redraw_for_a1111",
    summary="Draw from a picture, for the web UI's clients",
)
async def img2img(
    body: Image2Image, request: Request, service: Service, owner: Owner, client: Client
) -> ImagesAnswer:
    """As txt2img, from the first of `init_images`; with a mask, only where it is white."""
    picture = await _upload(service, owner, body.init_images[0], "init_images.0")
    more: dict[str, Any] = {"init_image": picture, "strength": body.denoising_strength}
    if body.mask:
        inverted = bool(body.inpainting_mask_invert)
        more["mask_image"] = await _upload(service, owner, body.mask, "mask", inverted=inverted)
    order, notes = body.order(service.catalog, **more)
    if len(body.init_images) > 1:
        notes.append("init_images: only the first is drawn from")
    return await _drawn(service, request, owner, client, order, notes, send=body.send_images)


async def _drawn(
    service: JobService,
    request: Request,
    owner: str,
    client: str,
    order: GenerateRequest,
    notes: list[str],
    *,
    send: bool | None,
) -> ImagesAnswer:
    service.watching.refuse_without_seat(client)
    job, _ = await service.order(order, owner=owner, client=client, life_s=None, key=None)
    job = await until_end(service, request, job, client)
    images = sorted(job["images"], key=lambda image: image["index"])
    files: list[bytes] = []
    if send is not False:
        folder = output_at(service.settings.output_address)
        files = await asyncio.to_thread(read_pictures, folder, images, Packing())
    return ImagesAnswer(
        images=[base64.b64encode(file).decode() for file in files],
        parameters=order.model_dump(mode="json", exclude_none=True, exclude={"metadata"}),
        info=info_of(job, images, notes),
    )


async def _upload(
    service: JobService, owner: str, text: str, field: str, *, inverted: bool = False
) -> dict[str, str]:
    """What an order names the picture by. Raises InvalidField."""
    data = await asyncio.to_thread(_decoded, text, field)
    if inverted:
        data = await asyncio.to_thread(_inverted, data, field)
    try:
        found, _ = await service.pictures.take(data, owner)
    except InvalidField as error:
        raise InvalidField(field, error.detail.removeprefix(f"{error.field}: ")) from error
    return {"upload_id": found.upload_id}


def _decoded(text: str, field: str) -> bytes:
    """From base64, perhaps of a data URL. Raises InvalidField."""
    _, _, bare = text[:200].partition(_DATA_URL)
    start = len(text[:200]) - len(bare) if bare else 0
    try:
        data = base64.b64decode("".join(text[start:].split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise InvalidField(field, "is no picture in base64")
    return data


def _inverted(data: bytes, field: str) -> bytes:
    with _opened(data, field) as picture:
        file = io.BytesIO()
        picture.convert("L").point(lambda value: 255 - value).save(file, "PNG")
    return file.getvalue()


def _opened(data: bytes, field: str, most: int | None = None) -> Image.Image:
    """Raises InvalidField for what is no picture, or has more than `most` pixels: it is not decoded."""
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        raise InvalidField(field, "is no PNG, JPEG or WebP") from None
    if most is not None and picture.width * picture.height > most:
        raise InvalidField(field, f"has more than {most} pixels")
    return picture


# ---- what runs ----


@router.get("/progress", operation_id="progress_for_a1111", summary="How far your newest order is")
async def progress(
    service: Service,
    owner: Owner,
    client: Client,
    skip_current_image: Annotated[
        bool, Query(description="Without a look at it.", examples=[True])
    ] = False,
) -> dict[str, Any]:
    """Of this client's own orders, not of the whole server."""
    live = await _live(service, owner, client)
    running = [job for job in live if job["status"] == "STARTED"]
    job = (running or live or [None])[0]
    if job is not None and not skip_current_image:
        await service.registry.send_previews(job["job_id"])
    done = (job["progress"] if job else None) or {}
    preview = job["preview"] if job and not skip_current_image else None
    return {
        "progress": done.get("value") or 0.0,
        "eta_relative": (job["eta_seconds"] or 0.0) if job else 0.0,
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": job["job_id"] if job else "",
            "job_count": len(live),
            "job_timestamp": stamp_of(job["created_at"]) if job else "0",
            "job_no": 0,
            "sampling_step": done.get("step", 0),
            "sampling_steps": done.get("steps", 0),
        },
        "current_image": base64.b64encode(preview["data"]).decode() if preview else None,
        "textinfo": f"waits for: {job['waiting_for']}" if job and job["waiting_for"] else None,
    }


@router.post("/interrupt", operation_id="interrupt_for_a1111", summary="Cancel your orders")
async def interrupt(service: Service, owner: Owner, client: Client) -> dict[str, Any]:
    """All of this client that came over this interface and have not ended."""
    for job in await _live(service, owner, client):
        await service.cancel(job["job_id"], owner)
    return {}


@router.post("/skip", operation_id="skip_for_a1111", summary="The same as interrupt")
async def skip(service: Service, owner: Owner, client: Client) -> dict[str, Any]:
    """Each order is one job here, so there is nothing to go on with."""
    return await interrupt(service, owner, client)


async def _live(service: JobService, owner: str, client: str) -> list[JobView]:
    """This client's live jobs of this dialect, the newest first."""
    wanted = JobFilter(statuses=LIVE, tag=TAG)
    page = await service.registry.page(owner, wanted, MOST_LIVE, None, None)
    return [job for job in page["jobs"] if job["labels"]["client"] == client]


# ---- pictures ----


class PictureBody(BaseModel):
    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    image: str = Field(description="PNG, JPEG or WebP in base64.")


@router.post("/png-info", operation_id="inspect_for_a1111", summary="What made a picture")
async def png_info(body: PictureBody, service: Service, owner: Owner) -> dict[str, Any]:
    """The texts of the file; POST /v1/inspect tells more."""
    data = await asyncio.to_thread(_decoded, body.image, "image")
    async with service.pictures.decoding:
        try:
            found = await asyncio.to_thread(inspect, data, service.settings.max_pixels)
        except InvalidField as error:
            raise InvalidField("image", error.detail.removeprefix(f"{error.field}: ")) from error
    recipe = found.recipe
    parameters = {} if recipe is None else {"Prompt": recipe.prompt, "Seed": recipe.seed}
    info = found.texts.get("parameters", "")
    return {"info": info, "items": found.texts, "parameters": parameters}


class Enlarge(PictureBody):
    """How a picture is enlarged, as the web UI's clients say it."""

    resize_mode: int = Field(default=0, ge=0, le=1, description="0: by a factor; 1: to a size.")
    upscaling_resize: float = Field(default=2.0, gt=0, le=8, description="The factor.")
    upscaling_resize_w: int = Field(default=512, ge=1, le=8192, description="Pixels.")
    upscaling_resize_h: int = Field(default=512, ge=1, le=8192, description="Pixels.")
    upscaling_crop: bool = Field(default=True, description="Fill the size; cut what is beyond.")
    upscaler_1: str = Field(default="None", description="As GET upscalers lists them.")


class EnlargeMany(Enlarge):
    image: str = Field(default="", description="Not used.")
    imageList: list[dict[str, str]] = Field(
        min_length=1, max_length=16, description="Each with `data`."
    )


@router.post("/extra-single-image", operation_id="enlarge_for_a1111", summary="Enlarge a picture")
async def extra_single_image(body: Enlarge, service: Service, owner: Owner) -> dict[str, Any]:
    """By Lanczos or to the nearest pixel. Nothing is stored."""
    return {"html_info": "", "image": await _enlarged(service, body, body.image, "image")}


@router.post(
    "/extra-batch-images", operation_id="enlargements_for_a1111", summary="Enlarge pictures"
)
async def extra_batch_images(body: EnlargeMany, service: Service, owner: Owner) -> dict[str, Any]:
    """As extra-single-image, for several."""
    images = [
        await _enlarged(service, body, one.get("data", ""), f"imageList.{i}.data")
        for i, one in enumerate(body.imageList)
    ]
    return {"html_info": "", "images": images}


async def _enlarged(service: JobService, body: Enlarge, text: str, field: str) -> str:
    if body.upscaler_1.lower() not in _FILTERS:
        raise InvalidField("upscaler_1", "no such upscaler", ["None", "Lanczos", "Nearest"])
    async with service.pictures.decoding:
        return await asyncio.to_thread(_enlarge, body, text, field, service.settings.max_pixels)


def _enlarge(body: Enlarge, text: str, field: str, most: int) -> str:
    """Base64 of the enlarged picture. Raises InvalidField."""
    with _opened(_decoded(text, field), field, most) as picture:
        width, height = picture.size
        if body.resize_mode == 0:
            size = round(width * body.upscaling_resize), round(height * body.upscaling_resize)
            box = (0.0, 0.0, float(width), float(height))
        else:
            size = (body.upscaling_resize_w, body.upscaling_resize_h)
            box = _shown(picture.size, size) if body.upscaling_crop else (0.0, 0.0, *picture.size)
        if size[0] * size[1] > most:
            raise InvalidField("upscaling_resize", f"makes more than {most} pixels")
        try:
            plain = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        except OSError:
            raise InvalidField(field, "cannot be read to its end") from None
        how = _FILTERS[body.upscaler_1.lower()]
        large = plain.resize((max(1, size[0]), max(1, size[1])), how, box=box)
    file = io.BytesIO()
    large.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _shown(have: tuple[int, int], want: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part in the middle that has the proportion of `want`: left, top, right, bottom."""
    scale = max(want[0] / have[0], want[1] / have[1])
    width, height = want[0] / scale, want[1] / scale
    left, top = (have[0] - width) / 2, (have[1] - height) / 2
    return left, top, left + width, top + height


@router.post("/options", operation_id="set_options_for_a1111", summary="Choose the model")
async def set_options(body: dict[str, Any], service: Service, owner: Owner) -> Response:
    """Only `sd_model_checkpoint` is looked at, and refused if it is not the active model: an order that wants
    another one that is served names it in its `override_settings`."""
    a1111_lists.choose(service.catalog, body)
    return Response("null", media_type="application/json")
