"""Everything that crosses a process border, as plain dicts.

Knows shapes, and which states are final; no rules. Dicts and not classes: the detached registry can be older
than the code that talks to it, and a pickled class would tie the two versions together.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

# ---- inside a renderer: what an engine says of one attempt ----


class Admitted(TypedDict):
    """The engine starts to work on this request: from here on a dead replica counts as an attempt."""

    kind: Literal["admitted"]
    replica: str
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
    """One finished image, losslessly encoded (PNG without metadata), under 4 MiB."""

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


# ---- job task -> launcher ----


class ImageFile(TypedDict):
    """One published file. `path` is relative to output/, with forward slashes."""

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


class JobError(TypedDict):
    code: str
    title: str
    detail: str
    retryable: bool


# ---- ingress -> registry ----


class Labels(TypedDict):
    """What an order says beside how to draw: it goes from the client to the job object as it is. Only
    `client` and `priority` have an effect: they decide whose turn it is."""

    client: str  # whom fairness counts the job for
    priority: str  # a name of `priorities.HEAD_START_S`
    tags: list[str]
    metadata: dict[str, Any]
    retry_of: str | None  # the job this one repeats


class Summary(TypedDict):
    """All that the registry and the output folder know of an order's sealed `params`. Made once, at submit,
    by `params.summary_of`."""

    kind: str  # generate
    pool: str  # the renderers that can draw it
    model: str
    model_revision: str
    style_id: str
    seed: int  # of image 0
    n: int  # images
    work: float  # megapixel steps; guidance counts twice


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


class SubmitReply(TypedDict):
    """Exactly one of job or error."""

    job: NotRequired[JobView]
    replayed: NotRequired[bool]
    error: NotRequired[JobError]
    """Its code: queue_full, too_late, idempotency_key_reuse, deleted, storage_failed."""
    retry_after: NotRequired[float]  # seconds


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


class JobFilter(TypedDict, total=False):
    """Which jobs a list shows: those that match every key that is given. Times are unix seconds."""

    statuses: list[str]
    style_id: str
    tag: str
    created_after: float
    created_before: float


class JobPage(TypedDict):
    """Jobs, newest first. `older` and `newer`: job numbers where the next page and the one before begin;
    None: there is none."""

    jobs: list[JobView]
    older: int | None
    newer: int | None


class WatchReply(TypedDict):
    """What changed after the cursor (epoch, seq). `resync`: some changes are missing. Then `jobs` are those
    that run, and the reader must ask again for every other live job that it knows."""

    epoch: int
    seq: int
    resync: bool
    jobs: list[JobView]
    gone: list[str]  # jobs that were deleted
    paused: str | None  # why nothing is launched now: application, renderer, storage, draining
    deployment: int  # grows whenever an ingress comes up
    now: float  # unix seconds, by the clock of the registry's host


class ChangesReply(TypedDict):
    """Jobs of one owner that changed after a cursor, oldest change first. `seq`: the cursor to go on from, if
    there are `more`. `resync`: some changes are missing, and no job is told."""

    seq: int
    resync: bool
    more: bool
    jobs: list[JobView]


# ---- ingress -> registry, when it comes up ----


class Deployment(TypedDict):
    """What a newly deployed application wants of its registry. Either side may be of other code, so what the
    registry does not know it ignores, and what is missing stays as it is."""

    session: str  # of the Serve that runs it
    limits: dict[str, Any]  # fields of `jobs.registry.RegistryLimits`
    model: str  # the one it serves
    model_revision: str
    gpus: float  # that one renderer needs
    nodes_on_demand: bool  # a cluster that adds the nodes it lacks
    output_dir: str  # an absolute path


# ---- registry -> renderer and job task ----


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


class OutputFolder(TypedDict):
    """Where an attempt writes."""

    path: str  # absolute
    id: str  # what `artifacts.identity` must find there; empty: the registry has not seen it yet


class Outcome(TypedDict):
    """How an attempt ended.

    drawn: `images` are stored, and not yet published. failed: it cannot be drawn, and `error` says why.
    refused: this renderer could not draw it, another one may; `error` says why. outdated: this renderer has
    other weights, or cannot read the order. full: the output folder cannot be written. died: its renderer
    died with it. released: no renderer took it, so nothing happened. stopped: it was told to stop. lost:
    its task's process is gone.
    """

    kind: Literal[
        "drawn", "failed", "refused", "outdated", "full", "died", "released", "stopped", "lost"
    ]
    reason: str
    images: NotRequired[list[ImageFile]]
    error: NotRequired[JobError]
    run_s: NotRequired[float]  # of `drawn`: seconds from its admission to its last image
