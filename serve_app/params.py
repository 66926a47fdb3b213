"""GenerationParams: the one description of an image order, fully resolved.

Knows nothing of HTTP, styles or Ray. It is made once, at submit; everything later (task, engine, file
metadata) reads only this, so a style or model file changed afterwards changes no accepted job.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
)

from serve_app.messages import Summary

MAX_SEED = 2**32 - 1
MAX_CLIP_SKIP = 12  # layers of the smallest published text encoder
DEFAULT_POOL = "default"
SHEET_STYLE = "sheet"
"""In the place of a style, in names of files and in lists."""
CPU_POOL = "cpu"
"""Of jobs that need no renderer: their Ray task does all the work."""


Tile = Literal["none", "x", "y", "both"]
"""Axes along which a picture repeats."""


MAX_REDRAWS = 8


class Published(BaseModel):
    """An image as a job published it, which the one that is made again is compared with. Paths are relative
    to output/."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: str
    index: int = Field(ge=0)
    path: str
    sha256: str
    pixels_sha256: str = Field(default="", description="Empty: published before it was noted.")
    original: str = Field(default="", description="As it was drawn; empty: `path` is.")
    original_sha256: str = ""
    original_pixels_sha256: str = ""


class Finishing(BaseModel):
    """What is done with a picture after it is drawn, fully resolved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    effects: tuple[dict[str, Any], ...] = Field(default=(), description="In this order.")
    require: dict[str, Any] | None = Field(default=None, description="Gates on the result.")
    redraws: int = Field(
        default=0,
        ge=0,
        le=MAX_REDRAWS,
        description="How often an image that fails a gate is drawn again, with the next seeds.",
    )
    on_fail: Literal["keep", "fail"] = Field(
        default="keep", description="What becomes of one that still fails."
    )
    format: Literal["png", "webp"] = "png"
    reproduces: tuple[Published, ...] = Field(
        default=(), description="What the images are compared with, each by its index."
    )

    @property
    def makes_asset(self) -> bool:
        """The result is another file than the picture as it was drawn."""
        return bool(self.effects) or self.format != "png"


class LoraUse(BaseModel):
    """A LoRA of an order. `revision`: hash of its file, so that a picture says what drew it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weight: float = Field(default=1.0, allow_inf_nan=False)
    revision: str = ""


class EmbeddingUse(BaseModel):
    """A textual inversion that a prompt names. `revision`: hash of its file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    revision: str = ""


class SourceUse(BaseModel):
    """A picture that an order is drawn from. `sha256` pins it: another file under that id is not drawn from.

    It is an upload, or a finished picture that was pinned as one. Its file stays while jobs need it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload_id: str
    sha256: str
    given: dict[str, Any] = Field(description="As the client named it.")


Prepare = Literal["canny", "lineart", "none"]
"""What is made of a picture before a ControlNet reads it."""
CONTROL_WORK = 0.4
"""Of what a step asks of a device: a ControlNet is the first half of a UNet."""


class ReferenceUse(BaseModel):
    """A picture whose looks an order takes up, by the IP-Adapter of its model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: SourceUse
    weight: float = Field(default=1.0, allow_inf_nan=False)


class ControlUse(BaseModel):
    """A picture whose shapes an order follows, by the ControlNet `type` of its model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    image: SourceUse
    weight: float = Field(default=1.0, allow_inf_nan=False)
    start: float = Field(
        default=0.0, ge=0, le=1, description="Share of the steps before it counts."
    )
    end: float = Field(default=1.0, ge=0, le=1)
    prepare: Prepare = "none"


class GenerationParams(BaseModel):
    """`n` images of one prompt. Image i is drawn with seed `seed + i` and no other randomness."""

    # Errors reach logs, and prompts must not.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    prompt: str = Field(description="Final positive prompt, after the style's template.")
    negative_prompt: str = Field(default="", description="Final negative prompt.")
    seed: int = Field(ge=0, le=MAX_SEED, description="Seed of image 0; image i uses seed + i.")
    n: int = Field(default=1, ge=1)
    width: int = Field(gt=0, description="Pixels.")
    height: int = Field(gt=0, description="Pixels.")
    steps: int = Field(ge=1, description="num_inference_steps given to the scheduler.")
    timesteps: tuple[int, ...] = Field(
        default=(), description="Of training, one for each step, instead of the scheduler's own."
    )
    guidance_scale: float = Field(ge=0, description="1 or less: no guidance rows.")
    guidance_rescale: float = Field(default=0.0, ge=0, le=1, description="phi of arXiv:2305.08891.")
    guidance_stop: float = Field(
        default=1.0, ge=0, le=1, description="Share of the steps that are guided (quality tier)."
    )
    tile: Tile = Field(
        default="none", description="Axes along which the picture repeats without a seam."
    )
    decoder: Literal["full", "tiny"] = Field(default="full", description="Quality tier.")
    scheduler: str = Field(
        description="A name from the model's `schedulers` in configs/models.yaml."
    )
    prompt_syntax: Literal["plain", "weighted"] = Field(
        default="plain",
        description="weighted: brackets are attention weights, BREAK and long prompts make windows.",
    )
    clip_skip: int = Field(
        default=1, ge=1, le=MAX_CLIP_SKIP, description="2: the text encoder's last but one layer."
    )
    loras: tuple[LoraUse, ...] = Field(default=(), description="Added in this order.")
    embeddings: tuple[EmbeddingUse, ...] = Field(
        default=(), description="Textual inversions that the prompts name."
    )
    init_image: SourceUse | None = Field(
        default=None, description="The picture it is drawn from. None: from noise alone."
    )
    strength: float = Field(
        default=1.0, gt=0, le=1, description="Share of the steps that are drawn with init_image."
    )
    mask_image: SourceUse | None = Field(
        default=None, description="Which part of init_image is drawn anew. None: all."
    )
    control: tuple[ControlUse, ...] = Field(default=(), description="Pictures it follows.")
    reference: ReferenceUse | None = Field(default=None, description="The picture it takes after.")
    reproducible: Literal["strict"] | None = Field(
        default=None, description="strict: own model calls, byte-equal whatever else runs."
    )
    model: str = Field(description="A name from configs/models.yaml.")
    model_revision: str = Field(description="Hash of the weights, or the pinned hub revision.")
    quality: Literal["full", "draft"] = Field(default="full", description="Tier as it was asked.")
    style_id: str = Field(default="none")
    style_revision: str = Field(default="")
    subject: str = Field(default="", description="The prompt as the client sent it.")
    subject_negative: str = Field(default="", description="The negative prompt as sent.")
    not_taught: str = Field(
        default="", description="Of words that the model was not taught; empty: of none."
    )
    finishing: Finishing | None = Field(
        default=None, description="Done by the job's own task. None: nothing."
    )

    @field_serializer("loras", "embeddings", "control", "timesteps", mode="wrap")
    def _as_json_has_them(self, uses: Any, dump: SerializerFunctionWrapHandler) -> list[Any]:
        """What was dumped equals what a row or a file gives back."""
        return [*dump(uses)]

    @property
    def drawn_steps(self) -> int:
        """Steps that are really done: with a picture, only the last ones, rounded down as diffusers does."""
        if self.init_image is None:
            return self.steps
        return min(int(self.steps * self.strength), self.steps)

    def seed_of(self, index: int) -> int:
        return self.seed + index

    @property
    def has_pictures(self) -> bool:
        """It is drawn from files of the output folder."""
        return bool(self.init_image or self.control or self.reference)

    @property
    def through_subject(self) -> str:
        """The prompt without the words that a style or a model puts after the client's own; nothing where it
        does not say them, since others stand for them."""
        before, own, _ = self.prompt.rpartition(self.subject or self.prompt)
        return before + own

    @property
    def work(self) -> float:
        """What the order asks of a device, in megapixel steps; guidance counts twice."""
        rows = 2.0 if self.guidance_scale > 1 else 1.0
        rows *= 1 + CONTROL_WORK * len(self.control)
        return self.n * self.drawn_steps * rows * self.width * self.height / 1e6


class SourcePicture(BaseModel):
    """A published picture that a job works on. `path` is relative to output/."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: str
    index: int = Field(ge=0)
    path: str
    sha256: str
    seed: int = Field(ge=0, le=MAX_SEED)
    width: int = Field(gt=0, description="Pixels.")
    height: int = Field(gt=0, description="Pixels.")


class DeriveParams(BaseModel):
    """Effects on pictures that exist, fully resolved: image i is made of source i."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: dict[str, Any] = Field(description="The body that orders the same again.")
    sources: tuple[SourcePicture, ...] = Field(min_length=1)
    effects: tuple[dict[str, Any], ...]
    format: Literal["png", "webp"] = "png"
    style_id: str = "none"
    reproduces: tuple[Published, ...] = ()

    @property
    def work(self) -> float:
        """Megapixels that effects pass over."""
        pixels = sum(source.width * source.height for source in self.sources)
        return pixels * max(1, len(self.effects)) / 1e6


class SheetPicture(SourcePicture):
    """A picture of a sheet, under the name it has there."""

    name: str


class SheetParams(BaseModel):
    """Pictures that exist and how they are packed, fully resolved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: dict[str, Any] = Field(description="The body that orders the same again.")
    pictures: tuple[SheetPicture, ...] = Field(min_length=1)
    spec: dict[str, Any] = Field(description="Fields of `delivery.spec.SheetSpec`.")
    reproduces: tuple[Published, ...] = ()

    @property
    def work(self) -> float:
        """Megapixels."""
        return sum(picture.width * picture.height for picture in self.pictures) / 1e6


def summary_of_sheet(params: SheetParams) -> Summary:
    """`n` is 1 however many pages it will have: that is known once they are packed."""
    return Summary(
        kind="sheet",
        pool=CPU_POOL,
        model="",
        model_revision="",
        style_id=SHEET_STYLE,
        seed=0,
        n=1,
        work=params.work,
        extra_files=True,
    )


def summary_of_derive(params: DeriveParams) -> Summary:
    """What the registry may know of a job that needs no renderer."""
    return Summary(
        kind="derive",
        pool=CPU_POOL,
        model="",
        model_revision="",
        style_id=params.style_id,
        seed=params.sources[0].seed,
        n=len(params.sources),
        work=params.work,
        extra_files=True,
    )


def summary_of(params: GenerationParams, pool: str = DEFAULT_POOL) -> Summary:
    """What the registry may know of an order. `pool`: the renderers that can draw it."""
    return Summary(
        kind="generate",
        pool=pool,
        model=params.model,
        model_revision=params.model_revision,
        style_id=params.style_id,
        seed=params.seed,
        n=params.n,
        work=params.work,
        extra_files=params.finishing is not None,
    )
