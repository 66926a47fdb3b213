"""Changes: what may become different of a job that was accepted, as clients say it. Its pixels never do.

Knows fields; asks nobody.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from serve_app.api.schemas import MAX_TAGS
from serve_app.api.shapes import Tag
from serve_app.errors import InvalidField
from serve_app.messages import JobChanges, JobView, Mark

MOST_STARS = 5
MOST_MARKED = 1000


class ImageMark(BaseModel):
    """What you think of one image. What is left out or null stays."""

    model_config = ConfigDict(strict=True, extra="forbid")

    index: int = Field(ge=0, description="Of the image, as the job says it.", examples=[0])
    starred: bool | None = Field(default=None, description="A favourite.", examples=[True])
    rejected: bool | None = Field(default=None, description="Not to be used.", examples=[False])
    rating: int | None = Field(
        default=None, ge=0, le=MOST_STARS, description="Stars; 0: none.", examples=[4]
    )

    def mark(self) -> Mark:
        given = self.model_dump(exclude={"index"}, exclude_none=True)
        return Mark(**given)


class ChangeRequest(BaseModel):
    """What becomes different of a job. What is left out or null stays."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={
            "examples": [{"priority": "high"}, {"images": [{"index": 0, "starred": True}]}]
        },
    )

    tags: list[Tag] | None = Field(
        default=None,
        max_length=MAX_TAGS,
        description="Instead of all those that it has.",
        examples=[["level-3"]],
    )
    priority: Literal["low", "normal", "high"] | None = Field(
        default=None,
        description="Only while it waits in line; else that is 409.",
        examples=["high"],
    )
    images: list[ImageMark] | None = Field(
        default=None,
        max_length=MOST_MARKED,
        description="Marks of its images; those that are not named keep theirs.",
        examples=[[{"index": 0, "starred": True, "rating": 4}]],
    )

    @field_validator("tags")
    @classmethod
    def _each_once(cls, tags: list[str] | None) -> list[str] | None:
        return None if tags is None else list(dict.fromkeys(tags))

    @model_validator(mode="after")
    def _says_something(self) -> ChangeRequest:
        if self.tags is None and self.priority is None and not self.images:
            raise PydanticCustomError("no_change", "Name tags, priority or images")
        return self

    def changes(self, job: JobView) -> JobChanges:
        """As the registry takes them. Raises InvalidField if the job has no such image."""
        changes = JobChanges()
        if self.tags is not None:
            changes["tags"] = self.tags
        if self.priority is not None:
            changes["priority"] = self.priority
        if self.images:
            there = sorted(image["index"] for image in job["images"])
            for place, one in enumerate(self.images):
                if one.index not in there:
                    why = f"the job has no image {one.index}"
                    raise InvalidField(f"images.{place}.index", why, there)
                if any(other.index == one.index for other in self.images[:place]):
                    raise InvalidField(f"images.{place}.index", f"image {one.index} is named twice")
            changes["marks"] = {str(one.index): one.mark() for one in self.images}
        return changes
