"""Reply of an image that was made again: how it compares with the one that was published.

Knows the fields; comparing is `tasks/reproduction.py`'s.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class BoxReply(BaseModel):
    """A rectangle of a picture, in pixels from its top left corner."""

    x: int = Field(description="Left.", examples=[12])
    y: int = Field(description="Top.", examples=[4])
    width: int = Field(description="Pixels.", examples=[3])
    height: int = Field(description="Pixels.", examples=[3])


Match = Literal["exact", "differs", "unavailable"]


class ComparedReply(BaseModel):
    """One file beside the one that it makes again."""

    role: str = Field(
        description="`original`: as it was drawn; `result`: what `url` is.", examples=["original"]
    )
    match: Match = Field(
        description="`exact`: every pixel is the same; `unavailable`: there is nothing to compare with.",
        examples=["differs"],
    )
    max_difference: int | None = Field(
        default=None, description="Of any channel of any pixel, in levels of 255.", examples=[1]
    )
    differing: float | None = Field(
        default=None, description="Share of the pixels that differ, 0 to 1.", examples=[0.0004]
    )
    where: BoxReply | None = Field(
        default=None,
        description="Around all that differs.",
        examples=[{"x": 12, "y": 4, "width": 3, "height": 3}],
    )


class ReproductionReply(BaseModel):
    """How an image that was made again compares with the one that was published."""

    job_id: str | None = Field(
        default=None, description="Whose image.", examples=["019aab42-7c1e-7d30-9f6a-2b54c1f0a3de"]
    )
    index: int | None = Field(default=None, description="Which one.", examples=[0])
    match: Match = Field(description="The worst of its files.", examples=["exact"])
    files: list[ComparedReply] = Field(description="File by file.", examples=[[]])
    reasons: list[str] = Field(
        description="Why it may differ, or cannot be compared: a code and a sentence, as "
        "`weights_changed`, `other_device`, `file_gone`.",
        examples=[["other_device: cpu then, NVIDIA H100 now"]],
    )
