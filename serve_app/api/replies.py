"""Bodies of replies: the job object and its parts, a dry run's estimate, the probes' answer.

Knows their fields and how a JobView becomes one; reads no file and asks nobody.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from serve_app.api.reproduction import ReproductionReply
from serve_app.artifacts.imprint import prints_of
from serve_app.catalog.syntax import syntax_notes
from serve_app.catalog.taught import not_taught_notes
from serve_app.messages import ImageFile, JobView, Mark, StoredFile
from serve_app.params import Finishing, GenerationParams

JOB_ID = "019aab42-7c1e-7d30-9f6a-2b54c1f0a3de"
IMAGE_URL = f"/output/2026-11-22/icon_7_{JOB_ID}_0_1.png"


class FileReply(BaseModel):
    """One file of an image."""

    role: str = Field(
        description="What it is to the image: `original` (as it was drawn), `asset` (what effects made "
        "of it), `normal_map`; of a sheet `page`, `archive` (a ZIP of everything), `manifest`, `atlas`, ...",
        examples=["original"],
    )
    url: str = Field(description="Path on this server; a secret.", examples=[IMAGE_URL])
    content_type: str = Field(description="Media type.", examples=["image/png"])
    size_bytes: int = Field(description="Bytes of the file.", examples=[31_234])
    sha256: str = Field(description="Of the file.", examples=["9f86d081" * 8])
    pixels_sha256: str | None = Field(
        default=None, description="Of a picture: its size and pixels.", examples=["60303ae2" * 8]
    )
    dhash: str | None = Field(
        default=None, description="Of a picture: how it looks.", examples=["00183c7e7e3c1800"]
    )
    name: str | None = Field(
        default=None,
        description="Of a sheet's file: its path in the sheet's archive.",
        examples=["icons.json"],
    )


class ImageReply(BaseModel):
    """One finished image."""

    url: str = Field(
        description="Path on this server. Whoever has it may fetch it: it is a secret.",
        examples=[IMAGE_URL],
    )
    original_url: str = Field(
        description="The picture before its effects; without effects the same as `url`. Of a derived "
        "image it is a file of another job, and goes with that.",
        examples=[IMAGE_URL],
    )
    index: int = Field(description="Place in the order, from 0.", examples=[0])
    seed: int = Field(description="The seed this image was drawn from.", examples=[7])
    width: int = Field(description="Pixels.", examples=[128])
    height: int = Field(description="Pixels.", examples=[128])
    content_type: str = Field(description="Media type.", examples=["image/png"])
    size_bytes: int = Field(description="Bytes of the file.", examples=[31_234])
    sha256: str = Field(description="Of the file.", examples=["9f86d081" * 8])
    has_alpha: bool = Field(description="True: it has transparent pixels.", examples=[False])
    files: list[FileReply] = Field(
        description="Every file of this image that its job has stored.", examples=[[]]
    )
    quality: dict[str, Any] | None = Field(
        description="What the gates of `require` measured; null: there were none.", examples=[None]
    )
    pixels_sha256: str | None = Field(
        default=None,
        description="Of size and pixels, whatever the file says beside them.",
        examples=["60303ae2" * 8],
    )
    dhash: str | None = Field(
        default=None,
        description="64 bits of how it looks; two alike pictures differ in few.",
        examples=["00183c7e7e3c1800"],
    )
    reproduction: ReproductionReply | None = Field(
        default=None,
        description="Of a job that makes another one's images again: whether they are the same.",
        examples=[None],
    )
    starred: bool = Field(default=False, description="Somebody's favourite.", examples=[False])
    rejected: bool = Field(default=False, description="Not to be used.", examples=[False])
    rating: int = Field(default=0, description="Stars, 1 to 5; 0: none.", examples=[0])
    notes: list[str] = Field(
        description="What a buyer should know, e.g. a truncated prompt.", examples=[[]]
    )

    @classmethod
    def of(cls, image: ImageFile, root: str = "", mark: Mark | None = None) -> Self:
        """`root`: prefix of every link, as `forwarded.root_of` finds it."""

        def link(path: str) -> str:
            return f"{root}/output/{quote(path)}"

        own = StoredFile(
            role="original",
            path=image["path"],
            content_type=image["content_type"],
            size_bytes=image["size_bytes"],
            sha256=image["sha256"],
            **prints_of(image),
        )
        files = [{**file, "url": link(file["path"])} for file in image.get("files") or [own]]
        return cls.model_validate(
            {
                **image,
                **(mark or {}),
                "url": link(image["path"]),
                "original_url": link(image.get("original", image["path"])),
                "files": files,
                "quality": image.get("quality"),
            }
        )


class ProgressReply(BaseModel):
    """How far a running job is; a full snapshot each time."""

    value: float | None = Field(default=None, description="0 to 1.", examples=[0.35])
    step: int = Field(default=0, description="Denoising steps done, all images.", examples=[7])
    steps: int = Field(default=0, description="Denoising steps in all.", examples=[20])
    image: int = Field(default=0, description="Images finished.", examples=[0])
    images: int = Field(default=0, description="Images in all.", examples=[1])
    stage: str | None = Field(
        default=None,
        description="queued, encoding, denoising, decoding; finishing, packing.",
        examples=["denoising"],
    )


class ErrorReply(BaseModel):
    """Why a job failed."""

    code: str = Field(description="For programs; stable.", examples=["out_of_memory"])
    title: str = Field(description="For people.", examples=["The device ran out of memory"])
    detail: str = Field(description="This case.", examples=["The device ran out of memory"])
    retryable: bool = Field(description="Ordering it again may help.", examples=[True])


class LoraReply(BaseModel):
    """A LoRA of an order."""

    name: str = Field(description="One of GET /v1/loras.", examples=["ink"])
    weight: float = Field(description="How strongly it counts.", examples=[0.8])


class AsOrdered(BaseModel):
    """The order with every choice made. Sent to POST /v1/generate, it orders the same images."""

    model_config = ConfigDict(hide_input_in_errors=True)  # errors reach logs, and prompts must not

    prompt: str = Field(description="As it was sent.", examples=["a red potion in a round bottle"])
    negative_prompt: str = Field(description="As it was sent.", examples=[""])
    style_id: str = Field(description="The style.", examples=["icon"])
    seed: int = Field(description="Of image 0; drawn, if none was given.", examples=[7])
    n: int = Field(description="Images.", examples=[1])
    width: int = Field(description="Pixels.", examples=[128])
    height: int = Field(description="Pixels.", examples=[128])
    steps: int = Field(description="Denoising steps.", examples=[20])
    guidance_scale: float = Field(description="Guidance.", examples=[6.0])
    guidance_rescale: float = Field(
        default=0.0, description="Contrast of guidance brought back, 0 to 1.", examples=[0.0]
    )
    scheduler: str = Field(description="Scheduler.", examples=["dpmpp_2m"])
    tile: str = Field(default="none", description="Axes that repeat.", examples=["none"])
    prompt_syntax: str = Field(default="plain", description="How it is read.", examples=["plain"])
    clip_skip: int = Field(default=1, description="Layer of the text encoder.", examples=[1])
    loras: list[LoraReply] = Field(default=[], description="In their order.", examples=[[]])
    init_image: dict[str, Any] | None = Field(
        default=None, description="The picture it starts from.", examples=[None]
    )
    strength: float | None = Field(
        default=None, description="Share of the steps that are drawn.", examples=[None]
    )
    mask_image: dict[str, Any] | None = Field(
        default=None, description="What of it is drawn anew.", examples=[None]
    )
    control: list[dict[str, Any]] = Field(
        default=[], description="Pictures it follows.", examples=[[]]
    )
    reference: dict[str, Any] | None = Field(
        default=None, description="The picture it takes after.", examples=[None]
    )
    model: str = Field(description="Model.", examples=["starter"])
    quality: str = Field(description="Tier.", examples=["full"])
    reproducible: str | None = Field(description="strict or null.", examples=[None])
    effects: list[dict[str, Any]] = Field(
        description="What is done with each picture.", examples=[[{"op": "trim"}]]
    )
    require: dict[str, Any] = Field(description="Gates on each result.", examples=[{}])
    redraws: int = Field(description="For what fails a gate.", examples=[0])
    on_fail: str = Field(description="keep or fail.", examples=["keep"])
    format: str = Field(description="Of the results.", examples=["png"])


class ResolvedReply(BaseModel):
    """What the style and the model made of the order."""

    model_config = ConfigDict(hide_input_in_errors=True)

    prompt: str = Field(
        description="What the model is given.",
        examples=["a red potion in a round bottle, game icon, centered"],
    )
    negative_prompt: str = Field(description="What the model is given.", examples=["blurry"])
    style_revision: str = Field(description="Hash of the style.", examples=["4be1c9d2"])
    model_revision: str = Field(description="Hash of the weights.", examples=["a91f03bb"])


class EstimateReply(BaseModel):
    """What an order would be; nothing was ordered."""

    request: AsOrdered = Field(description="The order, every choice made.")
    resolved: ResolvedReply = Field(description="What the style and the model would make of it.")
    notes: list[str] = Field(
        description="What the buyer should know before it is drawn, as in `images[].notes`.",
        examples=[[]],
    )
    estimated_seconds: float | None = Field(
        description="Until it would be done, ordered now; null: nothing has run yet to judge by.",
        examples=[3.2],
    )
    possible: bool = Field(description="It would be served.", examples=[True])
    reason: str | None = Field(description="Why it would not.", examples=[None])

    @classmethod
    def of(cls, params: GenerationParams, seconds: float | None, reason: str | None) -> Self:
        dumped = params.model_dump()
        return cls(
            request=AsOrdered.model_validate(_as_ordered(dumped)),
            resolved=ResolvedReply.model_validate(dumped),
            notes=[*syntax_notes(params), *not_taught_notes(params)],
            estimated_seconds=None if seconds is None else round(seconds, 2),
            possible=reason is None,
            reason=reason,
        )


class MetricsReply(BaseModel):
    queue_ms: int | None = Field(description="Waited, milliseconds.", examples=[120])
    execution_ms: int | None = Field(description="Ran, milliseconds.", examples=[None])


class UrlsReply(BaseModel):
    """Where to go on. Only routes that exist."""

    self: str = Field(description="This job.", examples=[f"/v1/jobs/{JOB_ID}"])
    events: str = Field(
        description="What happens to it, as a stream.", examples=[f"/v1/jobs/{JOB_ID}/events"]
    )
    cancel: str = Field(description="Stop it (POST).", examples=[f"/v1/jobs/{JOB_ID}/cancel"])
    retry: str = Field(
        description="Order it again, once it is final (POST).",
        examples=[f"/v1/jobs/{JOB_ID}/retry"],
    )
    derive: str = Field(
        description="Finish its pictures again, once it has some (POST).",
        examples=[f"/v1/jobs/{JOB_ID}/derive"],
    )
    reproduce: str = Field(
        description="Make its images again and compare, once it has some (POST).",
        examples=[f"/v1/jobs/{JOB_ID}/reproduce"],
    )


Kind = Literal["generate", "derive", "sheet"]
Priority = Literal["low", "normal", "high"]
Status = Literal["PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED"]


class JobStatusResponse(BaseModel):
    """A job: what was ordered, how far it is, and what came of it. Times are RFC 3339, UTC."""

    job_id: str = Field(description="UUIDv7: sorts by time of order.", examples=[JOB_ID])
    kind: Kind = Field(
        description="`generate` draws, `derive` finishes pictures that exist, `sheet` packs them.",
        examples=["generate"],
    )
    status: Status = Field(
        description="PENDING waits; STARTED runs; RETRY waits to run again; SUCCESS, FAILURE and "
        "REVOKED are final.",
        examples=["STARTED"],
    )
    result_urls: list[str] = Field(description="`url` of each image.", examples=[[]])
    images: list[ImageReply] = Field(description="Finished images, by index.", examples=[[]])
    created_at: datetime = Field(description="Accepted.", examples=["2026-11-22T16:00:00.250000Z"])
    started_at: datetime | None = Field(
        description="First began to run.", examples=["2026-11-22T16:00:00.370000Z"]
    )
    completed_at: datetime | None = Field(description="Became final.", examples=[None])
    deadline: datetime | None = Field(
        description="It is revoked if it is not done by then.", examples=[None]
    )
    expires_at: datetime | None = Field(
        description="Null: kept until somebody deletes it.", examples=[None]
    )
    queue_position: int | None = Field(description="1 is next; null: not in line.", examples=[None])
    eta_seconds: float | None = Field(
        description="Until it is done, by the engine's cost table and the work before it; null: "
        "unknown.",
        examples=[1.4],
    )
    waiting_for: str | None = Field(
        description="What holds a waiting job: `turn`, `replica` (none runs, one is starting), "
        "`model` (it is loading), `application` (none is deployed), `renderer` (it went away), "
        "`storage`, `draining`. Of `replica` and `model`, more may follow after a colon: what the "
        "cluster lacks, or why the model cannot be loaded.",
        examples=["turn"],
    )
    progress: ProgressReply | None = Field(description="Null before it runs.")
    error: ErrorReply | None = Field(
        description="Why it is a FAILURE, or REVOKED.", examples=[None]
    )
    request: AsOrdered | dict[str, Any] = Field(
        description="The order, every choice made; of a job that draws nothing, its body."
    )
    resolved: ResolvedReply | None = Field(
        description="What the style and the model made of it; null for a job that draws nothing."
    )
    owner: str = Field(
        description="Whose API key ordered it; `local` where no keys are used.", examples=["local"]
    )
    derived_from: str | None = Field(
        description="The job whose pictures this one finishes.", examples=[None]
    )
    retry_of: str | None = Field(description="The job this one repeats.", examples=[None])
    reproduces: str | None = Field(
        default=None, description="The job whose images this one makes again.", examples=[None]
    )
    batch_id: str | None = Field(
        default=None, description="The batch it was ordered with.", examples=[None]
    )
    priority: Priority = Field(description="As it was ordered.", examples=["normal"])
    tags: list[str] = Field(description="As they were given.", examples=[["level-3"]])
    metadata: dict[str, Any] = Field(description="As it was given.", examples=[{"slot": 7}])
    attempts: int = Field(description="Replica deaths this job was part of.", examples=[0])
    metrics: MetricsReply = Field(description="How long it took.")
    urls: UrlsReply = Field(description="Where to go on.")

    @classmethod
    def of(cls, job: JobView, age_s: float = 0.0, root: str = "") -> Self:
        """`age_s`: seconds since the registry sent `job`; they are taken off its ETA. `root`: prefix of
        every link, as `forwarded.root_of` finds it."""
        marks = job["labels"].get("marks", {})
        images = [
            ImageReply.of(file, root, marks.get(str(file["index"])))
            for file in sorted(job["images"], key=_index)
        ]
        own = f"{root}/v1/jobs/{job['job_id']}"
        progress, error, labels = job["progress"], job["error"], job["labels"]
        params, kind = job["params"], job["summary"]["kind"]
        drawn = kind == "generate"
        return cls(
            job_id=job["job_id"],
            kind=kind,  # pyright: ignore[reportArgumentType]
            status=job["status"],  # pyright: ignore[reportArgumentType]
            result_urls=[image.url for image in images],
            images=images,
            created_at=_utc(job["created_at"]),
            started_at=_utc_or_none(job["started_at"]),
            completed_at=_utc_or_none(job["completed_at"]),
            deadline=_utc_or_none(job["deadline"]),
            expires_at=_utc_or_none(job["expires_at"]),
            queue_position=job["queue_position"],
            eta_seconds=remaining(job["eta_seconds"], age_s),
            waiting_for=job["waiting_for"],
            progress=None if progress is None else ProgressReply.model_validate(progress),
            error=None if error is None else ErrorReply.model_validate(error),
            request=(AsOrdered.model_validate(_as_ordered(params)) if drawn else params["request"]),
            resolved=ResolvedReply.model_validate(params) if drawn else None,
            owner=job["owner"],
            derived_from=labels.get("derived_from"),
            retry_of=labels["retry_of"],
            reproduces=labels.get("reproduces"),
            batch_id=labels.get("batch_id"),
            priority=labels["priority"],  # pyright: ignore[reportArgumentType]
            tags=labels["tags"],
            metadata=labels["metadata"],
            attempts=job["attempts"],
            metrics=MetricsReply(queue_ms=job["queue_ms"], execution_ms=job["execution_ms"]),
            urls=UrlsReply(
                self=own,
                events=f"{own}/events",
                cancel=f"{own}/cancel",
                retry=f"{own}/retry",
                derive=f"{own}/derive",
                reproduce=f"{own}/reproduce",
            ),
        )


class Health(BaseModel):
    """The probe's answer."""

    status: Literal["ok"] = Field(description="Always ok; otherwise it is a problem.")


def _as_ordered(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with the prompts as they were sent: ordered again, the style is applied once more."""
    finishing = params.get("finishing") or Finishing().model_dump()
    return {
        **params,
        **finishing,
        "require": finishing["require"] or {},
        **{field: (params.get(field) or {}).get("given") for field in ("init_image", "mask_image")},
        "control": [
            {key: one[key] for key in ("type", "weight", "start", "end")}
            | {"image": one["image"]["given"], "prepared": one["prepare"] == "none"}
            for one in params.get("control") or ()
        ],
        "reference": (one := params.get("reference"))
        and {"image": one["image"]["given"], "weight": one["weight"]},
        "strength": params["strength"] if params.get("init_image") else None,
        "prompt": params["subject"],
        "negative_prompt": params["subject_negative"],
    }


def _index(file: ImageFile) -> int:
    return file["index"]


def remaining(eta: float | None, age_s: float) -> float | None:
    """Seconds of an ETA that are left after `age_s` seconds, as they are shown."""
    return None if eta is None else round(max(0.0, eta - age_s), 1)


def _utc_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else _utc(seconds)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
