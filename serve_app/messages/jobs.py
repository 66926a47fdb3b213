"""A job as it crosses a process border: how it is submitted, what the outside may know of it.

Shapes, and which states are final.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from serve_app.messages.quotas import Allowance
from serve_app.messages.webhooks import Webhook

# ---- ingress -> registry ----


class Mark(TypedDict, total=False):
    """What somebody thinks of one image. What is left out is false, or no stars."""

    starred: bool
    rejected: bool
    rating: int  # stars, 1 to 5


class Labels(TypedDict):
    """What an order says beside how to draw: it goes from the client to the job object as it is. `client`
    and `priority` decide whose turn it is, and `webhook` who is told."""

    client: str  # whom fairness counts the job for
    priority: str  # a name of `priorities.HEAD_START_S`
    tags: list[str]
    metadata: dict[str, Any]
    retry_of: str | None  # the job this one repeats
    derived_from: NotRequired[str | None]  # the job whose pictures this one finishes
    reproduces: NotRequired[str]  # the job that this one makes again, to compare
    batch_id: NotRequired[str | None]  # the batch it was ordered with
    webhook: NotRequired[Webhook]  # whom the job calls; the store writes what is to be sent
    marks: NotRequired[
        dict[str, Mark]
    ]  # by index of the image, as text; those without any are not there


class Summary(TypedDict):
    """All that the registry and the output folder know of an order's sealed `params`. Made once, at submit,
    by `params.summary_of`."""

    kind: str  # generate, derive, sheet
    pool: str  # the renderers that can draw it; `params.CPU_POOL`: none is needed
    model: str
    model_revision: str
    style_id: str
    seed: int  # of image 0
    n: int  # images
    work: float  # megapixel steps; guidance counts twice
    extra_files: NotRequired[bool]  # attempts write more than one PNG for each image


class Submission(TypedDict):
    job_id: str  # UUIDv7, minted by the ingress
    owner: str
    params: dict[str, Any]  # GenerationParams.model_dump()
    summary: Summary
    labels: Labels
    deadline: float
    """Unix seconds, by the clock of the registry's host. A later submit is refused: a 503 leaves no job."""
    idempotency_key: NotRequired[str | None]
    body_hash: NotRequired[str]
    cancel_after_s: NotRequired[float | None]
    quota: NotRequired[Allowance]  # of whoever orders


class SubmitReply(TypedDict):
    """Exactly one of job or error."""

    job: NotRequired[JobView]
    replayed: NotRequired[bool]
    error: NotRequired[JobError]
    """Its code: queue_full, too_late, idempotency_key_reuse, deleted, storage_failed; quota_ and a name of
    `Allowance`."""
    retry_after: NotRequired[float]  # seconds


# ---- registry -> ingress ----

TERMINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
"""Values of `JobView["status"]` that never change again."""


class JobView(TypedDict):
    """What the outside may know of a job. Times are unix seconds, UTC."""

    job_id: str
    owner: str
    status: str
    rev: str  # "epoch.n"
    created_at: float
    started_at: float | None
    completed_at: float | None
    deadline: float | None
    expires_at: float | None
    attempts: int
    fence: int
    queue_position: int | None  # 1 is next; None: not waiting
    eta_seconds: float | None  # at the moment of this view
    waiting_for: str | None
    progress: dict[str, Any] | None  # value, step, steps, image, images, stage
    preview: PreviewImage | None
    images: list[ImageFile]
    error: JobError | None
    params: dict[str, Any]
    summary: Summary
    labels: Labels
    queue_ms: int | None
    execution_ms: int | None


class PreviewImage(TypedDict):
    """An image that is being drawn, as it looks now."""

    index: int
    number: int  # grows with each preview of the job
    data: bytes  # a small JPEG


class Tombstone(TypedDict):
    """What is left of a job that was deleted, or that has expired."""

    job_id: str
    owner: str
    gone: Literal["deleted", "expired"]


class Prints(TypedDict):
    """Of a picture, as `artifacts.imprint` makes them."""

    pixels_sha256: NotRequired[str]
    dhash: NotRequired[str]


class StoredFile(TypedDict):
    """A file of an image, with its `Prints`. `path` is relative to output/, with forward slashes."""

    pixels_sha256: NotRequired[str]  # of `Prints`
    dhash: NotRequired[str]
    role: str  # original, asset, normal_map, ...: what it is to the image
    path: str
    content_type: str
    size_bytes: int
    sha256: str
    name: NotRequired[str]  # of a file that belongs to a sheet: its path in the sheet's archive


class ImageFile(TypedDict):
    """One published image: its main file, and the others that belong to it. `path` is relative to output/,
    with forward slashes."""

    pixels_sha256: NotRequired[str]  # of `Prints`
    dhash: NotRequired[str]
    path: str
    index: int
    seed: int
    width: int
    height: int
    content_type: str
    size_bytes: int
    sha256: str
    has_alpha: bool
    notes: list[str]
    original: NotRequired[str]  # path of the picture before its effects; left out: the file itself
    files: NotRequired[list[StoredFile]]  # all files of the image; left out: only the main one
    quality: NotRequired[dict[str, Any]]  # what quality gates measured
    reproduction: NotRequired[dict[str, Any]]  # how it compares with the image that it makes again


class JobError(TypedDict):
    code: str
    title: str
    detail: str
    retryable: bool
