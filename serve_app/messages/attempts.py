"""One attempt at a job: what the registry gives to whoever makes it, and how it ended.

Shapes only.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from serve_app.messages.jobs import ImageFile, JobError, Summary

# ---- registry -> renderer and job task ----


class WeightFiles(TypedDict):
    """Absolute paths of what effects need that ask a learned model."""

    matting: str | None  # an ONNX file
    upscalers: str | None  # a folder of .safetensors


class OutputFolder(TypedDict):
    """Where an attempt writes, and what else its task finds on its node."""

    path: str  # its address: an absolute path
    id: str  # what `artifacts.identity` must find there; empty: the registry has not seen it yet
    weights: NotRequired[WeightFiles]


class Ticket(TypedDict):
    """All that an attempt and a renderer know of a job: the stored, fully resolved order, and whose attempt
    it is."""

    job_id: str
    params: dict[str, Any]
    summary: Summary
    epoch: int
    fence: int
    alone: bool  # it shares no model call with others: a replica died with this job on it
    priority: str
    preview: bool  # send previews: somebody watches
    folder: NotRequired[OutputFolder]  # of an order with pictures: where they are


# ---- job task -> launcher -> registry ----


class Redraw(TypedDict):
    """Images of a job that failed a gate are to be drawn once more, in the same attempt."""

    images: list[ImageFile]  # the best so far of each image, stored and not yet published
    indices: list[int]  # which images are drawn again, in the order of `params`' images
    number: int  # of the round, from 1
    used: int  # seeds that redraws have taken, with those of this round
    params: dict[str, Any]  # for the renderer
    run_s: float  # seconds of drawing so far


class Outcome(TypedDict):
    """How an attempt ended.

    drawn: `images` are stored, and not yet published. failed: it cannot be drawn, and `error` says why.
    refused: this renderer could not draw it, another one may; `error` says why. outdated: this renderer has
    other weights, or cannot read the order. full: the output folder cannot be written. died: its renderer
    died with it. released: no renderer took it, so nothing happened. stopped: it was told to stop. lost:
    its task's process is gone. redraw: some images are to be drawn once more; the launcher does so.
    """

    kind: Literal[
        "drawn",
        "failed",
        "refused",
        "outdated",
        "full",
        "died",
        "released",
        "stopped",
        "lost",
        "redraw",
    ]
    reason: str
    images: NotRequired[list[ImageFile]]
    error: NotRequired[JobError]
    redraw: NotRequired[Redraw]
    unstored: NotRequired[bool]  # of `full`: what was drawn is there, and need not be drawn again
    run_s: NotRequired[float]  # of `drawn`: seconds from its admission to its last image
    extra_work: NotRequired[float]  # megapixel steps of redraws, which the order did not say
