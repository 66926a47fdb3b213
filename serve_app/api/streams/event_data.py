"""Data of the events of a stream, beside the whole job of a `status` event.

Knows their fields; `stream.py` says what is sent when.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field

from serve_app.api.replies import JOB_ID, ImageReply, ProgressReply, Status, remaining
from serve_app.messages import JobView


class ProgressEvent(BaseModel):
    """`data` of a `progress` event: how far a job is, whole each time."""

    job_id: str = Field(description="Of which job.", examples=[JOB_ID])
    status: Status = Field(description="As in the job.", examples=["STARTED"])
    progress: ProgressReply | None = Field(description="As in the job.")
    queue_position: int | None = Field(description="As in the job.", examples=[None])
    eta_seconds: float | None = Field(description="As in the job.", examples=[1.4])
    waiting_for: str | None = Field(description="As in the job.", examples=[None])

    @classmethod
    def of(cls, job: JobView, age_s: float) -> Self:
        progress = job["progress"]
        return cls(
            job_id=job["job_id"],
            status=job["status"],  # pyright: ignore[reportArgumentType]
            progress=None if progress is None else ProgressReply.model_validate(progress),
            queue_position=job["queue_position"],
            eta_seconds=remaining(job["eta_seconds"], age_s),
            waiting_for=job["waiting_for"],
        )


class OutputEvent(ImageReply):
    """`data` of an `output` event: a finished image of a job that succeeded."""

    job_id: str = Field(description="Of which job.", examples=[JOB_ID])


class PreviewEvent(BaseModel):
    """`data` of a `preview` event: a small look at an image that is being drawn."""

    job_id: str = Field(description="Of which job.", examples=[JOB_ID])
    index: int = Field(description="Of which image, from 0.", examples=[0])
    content_type: Literal["image/jpeg"] = Field(description="Media type.")
    data: str = Field(description="The picture, base64.", examples=["/9j/4AAQSkZJRg=="])
