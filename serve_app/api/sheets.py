"""SheetRequest: which pictures of which jobs become a sheet; and how it becomes SheetParams.

Knows jobs as their owner sees them; places, formats and pixels are later work.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve_app.api.shapes import Tag
from serve_app.delivery.names import readable_name, unique_names
from serve_app.delivery.sheet import (
    MAX_SPRITES,
    check_names,
    largest_side,
    refuse_too_large,
    refuse_too_much,
)
from serve_app.delivery.spec import Name, SheetSpec
from serve_app.errors import Gone, InvalidField, NotFound
from serve_app.messages import ImageFile, JobFilter, JobView, Labels
from serve_app.params import SheetParams, SheetPicture

BODY_BYTES = 2**20
"""Of 2,000 pictures with names, and clips of them."""
MAX_TAGS = 16
AT_ONCE = 50  # questions to the registry

Find = Callable[[str], Awaitable[JobView]]
"""Raises NotFound, Gone."""
Succeeded = Callable[[JobFilter, int], Awaitable[Sequence[JobView]]]
"""Succeeded jobs that are wanted, the oldest first; more than so many are cut."""

JOB_ID = "019aab42-7c1e-7d30-9f6a-2b54c1f0a3de"


class SheetItem(BaseModel):
    """Pictures of one job."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    job_id: str = Field(max_length=100, description="A job that succeeded.", examples=[JOB_ID])
    index: int | None = Field(
        default=None, ge=0, le=10_000, description="Which image; null: all of them.", examples=[0]
    )
    name: Name | None = Field(
        default=None,
        description="On the sheet: A-Z a-z 0-9 _ and -. Null: the prompt and the seed, as "
        "`red_potion_7`. Several images of one item get `_0`, `_1` and so on.",
        examples=["potion"],
    )


class SheetRequest(SheetSpec):
    """An order of a sheet: `items`, or every finished picture with a `tag`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"tag": "level-3", "name": "icons", "formats": ["godot"]}]}
    )

    items: list[SheetItem] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_SPRITES,
        description="What is packed, in this order.",
        examples=[[{"job_id": JOB_ID, "index": 0, "name": "potion"}]],
    )
    tag: Tag | None = Field(
        default=None,
        description="Instead of `items`: pictures of all jobs with this tag that succeeded, the oldest "
        "first. A picture that was finished anew by a job of the same tag comes as that one.",
        examples=["level-3"],
    )
    batch_id: str | None = Field(
        default=None,
        max_length=100,
        description="Instead of `items`: pictures of all jobs of this batch that succeeded, in that way.",
        examples=[None],
    )
    priority: Literal["low", "normal", "high"] = Field(
        default="normal", description="As of an order.", examples=["normal"]
    )
    tags: list[Tag] = Field(
        default=[],
        max_length=MAX_TAGS,
        description="Of the sheet.",
        examples=[["ui"]],
    )

    @model_validator(mode="after")
    def _one_way_to_say_what(self) -> SheetRequest:
        if [self.items, self.tag, self.batch_id].count(None) != 2:
            raise InvalidField("items", "Give either items, a tag or a batch_id.")
        return self

    @property
    def spec(self) -> SheetSpec:
        return SheetSpec(**{name: getattr(self, name) for name in SheetSpec.model_fields})

    def labels(self, client: str) -> Labels:
        return Labels(
            client=client,
            priority=self.priority,
            tags=list(dict.fromkeys(self.tags)),
            metadata={},
            retry_of=None,
        )

    def body_hash(self) -> str:
        body = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(body.encode()).hexdigest()


async def resolve_sheet(body: SheetRequest, find: Find, succeeded: Succeeded) -> SheetParams:
    """Every picture found, named and checked. Raises InvalidField: what can be known to be impossible before
    pixels are read."""
    what = "items"
    if body.items is not None:
        jobs = await _found(body.items, find)
        chosen = [
            (job, image, name, f"items.{i}")
            for i, item in enumerate(body.items)
            for job in [_with_pictures(jobs[item.job_id], f"items.{i}.job_id")]
            for image, name in _named(_images(job, item.index, f"items.{i}.index"), item.name)
        ]
    else:
        wanted = {"tag": body.tag} if body.batch_id is None else {"batch_id": body.batch_id}
        ((what, value),) = wanted.items()
        found = _newest_forms(await succeeded(cast(JobFilter, wanted), MAX_SPRITES + 1))
        if not found:
            raise InvalidField(what, f"no job of the {what} {value!r} has succeeded")
        chosen = [(job, image, None, what) for job in found for image in _sorted(job)]
    parents = await _parents([job for job, *_ in chosen], find)
    names = _names([(job, image, name) for job, image, name, _ in chosen], parents)
    refuse_too_much([(image["width"], image["height"]) for _, image, *_ in chosen], what)
    spec = body.spec
    check_names(names, spec)
    for (_, image, _, field), name in zip(chosen, names, strict=True):
        if not (spec.trim and image["has_alpha"]):  # else it may become smaller
            rim = 2 * spec.extrude
            size = (image["width"] + rim, image["height"] + rim)
            refuse_too_large(field, name, size, largest_side(spec))
    pictures = [
        SheetPicture(
            job_id=job["job_id"],
            index=image["index"],
            path=image["path"],
            sha256=image["sha256"],
            seed=image["seed"],
            width=image["width"],
            height=image["height"],
            name=name,
        )
        for (job, image, *_), name in zip(chosen, names, strict=True)
    ]
    return SheetParams(
        request=body.model_dump(mode="json", exclude_defaults=True),
        pictures=tuple(pictures),
        spec=spec.model_dump(mode="json"),
    )


async def _found(items: Sequence[SheetItem], find: Find) -> dict[str, JobView]:
    """Job id -> job. Raises InvalidField for the first item whose job is not there."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(job_id: str) -> JobView | str:
        async with limit:
            try:
                return await find(job_id)
            except (NotFound, Gone) as error:
                return error.detail

    ids = list(dict.fromkeys(item.job_id for item in items))
    found = dict(zip(ids, await asyncio.gather(*map(one, ids)), strict=True))
    jobs: dict[str, JobView] = {}
    for i, item in enumerate(items):
        job = found[item.job_id]
        if isinstance(job, str):
            raise InvalidField(f"items.{i}.job_id", job)
        jobs[item.job_id] = job
    return jobs


def _with_pictures(job: JobView, field: str) -> JobView:
    if job["summary"]["kind"] == "sheet":
        raise InvalidField(field, "is a sheet itself: name the jobs of its pictures")
    if job["status"] != "SUCCESS":
        raise InvalidField(
            field, f"this job is {job['status']}; only one that succeeded has pictures"
        )
    return job


def _images(job: JobView, index: int | None, field: str) -> list[ImageFile]:
    found = [image for image in _sorted(job) if index in (None, image["index"])]
    if not found:
        allowed = [image["index"] for image in _sorted(job)]
        raise InvalidField(field, f"this job has no image {index}", allowed)
    return found


def _named(images: list[ImageFile], name: str | None) -> list[tuple[ImageFile, str | None]]:
    if name is None or len(images) == 1:
        return [(image, name) for image in images]
    return [(image, f"{name}_{image['index']}") for image in images]


def _sorted(job: JobView) -> list[ImageFile]:
    return sorted(job["images"], key=lambda image: image["index"])


def _newest_forms(jobs: Sequence[JobView]) -> list[JobView]:
    """Without sheets, and without jobs whose pictures another one of these finished anew."""
    replaced = {job["labels"].get("derived_from") for job in jobs}
    return [
        job for job in jobs if job["summary"]["kind"] != "sheet" and job["job_id"] not in replaced
    ]


async def _parents(jobs: Sequence[JobView], find: Find) -> dict[str, JobView]:
    """The jobs that derived ones were made of, as far as they are still there: they know the prompt."""
    found: dict[str, JobView] = {}
    for job in jobs:
        parent = job["labels"].get("derived_from")
        if parent is not None and parent not in found:
            try:
                found[parent] = await find(parent)
            except (NotFound, Gone):
                continue
    return found


def _names(
    chosen: Sequence[tuple[JobView, ImageFile, str | None]], parents: dict[str, JobView]
) -> list[str]:
    """Names that were asked for stay as they are; the others give way to them."""
    asked = [name for _, _, name in chosen if name is not None]
    own = [
        readable_name(_words(job, parents), image["seed"])
        for job, image, name in chosen
        if name is None
    ]
    free = iter(unique_names(own, asked))
    return [next(free) if name is None else name for _, _, name in chosen]


def _words(job: JobView, parents: dict[str, JobView]) -> str:
    params: dict[str, Any] = job["params"]
    parent = job["labels"].get("derived_from")
    if parent in parents:
        params = parents[parent]["params"]
    return params.get("subject") or params.get("prompt") or job["summary"]["style_id"]
