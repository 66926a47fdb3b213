"""What an engine says of one attempt, and what a renderer gives to the job task and the registry.

Shapes only.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

# ---- inside a renderer: what an engine says of one attempt ----


class Admitted(TypedDict):
    """The engine starts to work on this request: from here on a dead replica counts as an attempt."""

    kind: Literal["admitted"]
    solo_seconds: NotRequired[float]  # predicted, for all images of the job alone on the device


class Progress(TypedDict):
    kind: Literal["progress"]
    stage: Literal["queued", "encoding", "denoising", "decoding"]
    step: int  # denoising evaluations done, over all images of the job
    steps: int  # denoising evaluations in all, over all images
    image: int  # images finished
    images: int
    eta_seconds: NotRequired[float]  # until its last image, by the engine's cost table


class Preview(TypedDict):
    kind: Literal["preview"]
    index: int
    data: bytes  # a small JPEG


class RenderedImage(TypedDict):
    """One finished image, losslessly encoded (PNG without metadata)."""

    kind: Literal["image"]
    index: int
    seed: int
    width: int
    height: int
    has_alpha: bool
    data: bytes
    render_seconds: float
    made_by: dict[str, Any]  # device, dtype, threads, torch, diffusers, weights hash
    notes: list[str]  # e.g. "prompt_truncated: 31 of 45 tokens used", "draft: ..."


class RenderFailed(TypedDict):
    """The request ended without (all of) its images; the stream ends after it."""

    kind: Literal["failed"]
    code: str  # a code of errors.RenderError and its children
    title: str
    detail: str
    retryable: bool


RenderEvent = Admitted | Progress | Preview | RenderedImage | RenderFailed

# ---- renderer -> job task ----


class Rendered(TypedDict):
    """What `render(ticket)` returns: all images, or why there are none."""

    images: list[RenderedImage]
    failed: RenderFailed | None


# ---- renderer -> registry ----


class Report(TypedDict):
    """What happens in one renderer, of all its attempts at once. Each entry begins with job id and fence."""

    admitted: list[tuple[str, int, float | None]]  # and the predicted seconds alone on the device
    progress: list[tuple[str, int, dict[str, Any]]]
    previews: list[tuple[str, int, int, bytes]]  # and the index of the image, and a small JPEG
