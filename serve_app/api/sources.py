"""Pictures that an order is drawn from: how a client names them, and what they are found to be.

Knows uploads and images of jobs; nothing of how pictures are drawn from, nor of routes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from serve_app.api.uploads import UPLOAD_ID, SourcePictures
from serve_app.errors import Gone, InvalidField, NotFound, SourceMissing
from serve_app.messages import JobView
from serve_app.params import SourcePicture, SourceUse

FIELDS = ("init_image", "mask_image")
"""Of an order, that name a picture."""
NESTED = ("control", "reference")
"""Of an order, that have a picture among what they say."""
MOST = 10_000
"""Above any index there is."""

JobOf = Callable[[str], Awaitable[JobView]]
"""The owner's job of this id. Raises NotFound, Gone."""


class ImageSource(BaseModel):
    """A picture of yours: an upload, or an image of a job that succeeded."""

    model_config = ConfigDict(strict=True, extra="forbid")

    upload_id: str | None = Field(
        default=None, max_length=100, description="From POST /v1/uploads.", examples=[UPLOAD_ID]
    )
    job_id: str | None = Field(
        default=None, max_length=100, description="Instead: of a job.", examples=[None]
    )
    index: int = Field(
        default=0,
        ge=0,
        le=MOST,
        description="Which image of the job; of a drawn one the picture as it was drawn.",
        examples=[0],
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> ImageSource:
        if (self.upload_id is None) == (self.job_id is None):
            raise PydanticCustomError("which_picture", "Give either upload_id or job_id")
        if self.upload_id is not None and self.index:
            raise PydanticCustomError("which_picture", "An upload has one picture, so no index")
        return self


class Found(NamedTuple):
    use: SourceUse
    size: tuple[int, int]  # width, height


async def sources_of(
    named: Mapping[str, ImageSource],
    owner: str,
    pictures: SourcePictures,
    job_of: JobOf,
    *,
    keep: bool,
) -> dict[str, SourceUse]:
    """`named`: the picture of each field. `keep`: an order is made, so pictures of jobs are kept for it.
    Raises InvalidField, Unavailable."""
    found = {
        field: await _found(field, source, owner, pictures, job_of, keep)
        for field, source in named.items()
    }
    picture, mask = found.get("init_image"), found.get("mask_image")
    if picture is not None and mask is not None and picture.size != mask.size:
        wanted = "{}x{}".format(*picture.size)
        have = "{}x{}".format(*mask.size)
        raise InvalidField("mask_image", f"is {have}, init_image is {wanted}", [wanted])
    return {field: one.use for field, one in found.items()}


async def _found(
    field: str,
    source: ImageSource,
    owner: str,
    pictures: SourcePictures,
    job_of: JobOf,
    keep: bool,
) -> Found:
    given = source.model_dump(exclude_defaults=True)
    if source.upload_id is not None:
        try:
            upload = await pictures.found(source.upload_id, owner)
        except NotFound as error:
            raise InvalidField(f"{field}.upload_id", error.detail) from error
        use = SourceUse(upload_id=upload.upload.upload_id, sha256=upload.upload.sha256, given=given)
        return Found(use, (upload.width, upload.height))
    assert source.job_id is not None
    try:
        job = await job_of(source.job_id)
    except (NotFound, Gone) as error:
        raise InvalidField(f"{field}.job_id", error.detail) from error
    if job["status"] != "SUCCESS":
        raise InvalidField(f"{field}.job_id", f"the job is {job['status']}", ["a job in SUCCESS"])
    there = sorted(image["index"] for image in job["images"])
    if source.index not in there:
        raise InvalidField(f"{field}.index", f"the job has no image {source.index}", there)
    picture = picture_of(job, source.index, f"{field}.index")
    upload_id = ""
    if keep:
        try:
            upload_id = await pictures.pin(picture.path, picture.sha256, owner)
        except SourceMissing as error:
            raise InvalidField(f"{field}.job_id", "its file is not there any more") from error
    use = SourceUse(upload_id=upload_id, sha256=picture.sha256, given={"index": 0} | given)
    return Found(use, (picture.width, picture.height))


async def sources_again(params: Mapping[str, Any], pictures: SourcePictures) -> dict[str, Any]:
    """For a job that is ordered once more: its pictures, kept for the new job too. Raises InvalidField where
    one is gone."""

    async def kept(field: str, use: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {**use, "upload_id": await pictures.again(use["upload_id"])}
        except SourceMissing as error:
            why = "the picture that this job was drawn from is not kept any more; order anew"
            raise InvalidField(field, why) from error

    again: dict[str, Any] = {
        field: await kept(field, params[field]) for field in FIELDS if params.get(field) is not None
    }
    if controls := params.get("control"):
        again["control"] = [
            {**one, "image": await kept(f"control.{i}.image", one["image"])}
            for i, one in enumerate(controls)
        ]
    if reference := params.get("reference"):
        image = await kept("reference.image", reference["image"])
        again["reference"] = {**reference, "image": image}
    return again


def picture_of(job: JobView, index: int, field: str) -> SourcePicture:
    """Of a drawn image the picture as it was drawn; of a derived one what it became. Raises InvalidField."""
    image = next(image for image in job["images"] if image["index"] == index)
    drawn = {file["role"]: file for file in image.get("files", [])}.get("original")
    if not image["content_type"].startswith("image/"):
        raise InvalidField(field, f"image {index} is no picture")
    return SourcePicture(
        job_id=job["job_id"],
        index=index,
        path=drawn["path"] if drawn else image["path"],
        sha256=drawn["sha256"] if drawn else image["sha256"],
        seed=image["seed"],
        width=image["width"],
        height=image["height"],
    )
