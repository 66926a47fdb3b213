"""What clients send: GenerateRequest.

Knows the fields and their general limits. `catalog/resolve.py` checks what a style or a model allows.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from serve_app.api.shapes import SIZE, Size, Tag
from serve_app.api.sources import FIELDS, NESTED, ImageSource
from serve_app.catalog.loras import MAX_LORA_WEIGHT, MAX_LORAS
from serve_app.catalog.resolve import MAX_CONTROLS, Order
from serve_app.errors import InvalidField
from serve_app.finishing.effects import KINDS, MOST_EFFECTS
from serve_app.hook_events import EVENTS
from serve_app.messages import Labels
from serve_app.params import MAX_CLIP_SKIP, MAX_REDRAWS, MAX_SEED, SourceUse, Tile

_SPACES = dict.fromkeys(map(ord, "\t\n\v\f\r\x85"), " ")
_CLEANED = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)]) | _SPACES
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # Hangul fillers, the empty Braille cell
ABSURD = 1_000_000
"""Above any limit of a model or a setting: it only keeps numbers small enough to compute with. `resolve`
checks the real limits."""

MAX_TAGS = 16
MAX_METADATA = 4096
MAX_DEPTH = 8
MOST_GATES = 32  # more than there are: whoever resolves an order says which
OPS = [*KINDS]
EFFECT = WithJsonSchema(
    {
        "type": "object",
        "required": ["op"],
        "properties": {"op": {"enum": OPS}},
        "description": "As GET /v1/effects describes it.",
    }
)
NOT_DRAWN = {
    *("size", "priority", "tags", "metadata", "dry_run", "name"),
    *("webhook", "webhook_events_filter"),
}
"""Fields that `resolve` does not take: no image depends on them."""

NO_SOURCES: Mapping[str, SourceUse] = {}

PROMPT = "a red potion in a round bottle"
HookEvent = Literal["queued", "started", "output", "completed"]


class LoraOrder(BaseModel):
    """A LoRA that a picture is drawn with."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str = Field(max_length=100, description="One of GET /v1/loras.", examples=["ink"])
    weight: float = Field(
        default=1.0,
        ge=-MAX_LORA_WEIGHT,
        le=MAX_LORA_WEIGHT,
        allow_inf_nan=False,
        description="How strongly it counts.",
        examples=[0.8],
    )


class ControlOrder(BaseModel):
    """A picture whose shapes are followed."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: str = Field(
        max_length=40, description="One of `controls` of GET /v1/models.", examples=["canny"]
    )
    image: ImageSource = Field(description="Fitted to the order's size as init_image is.")
    weight: float = Field(
        default=1.0, gt=0, le=2, allow_inf_nan=False, description="How closely.", examples=[1.0]
    )
    start: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the steps before it counts.", examples=[0.0]
    )
    end: float = Field(
        default=1.0, gt=0, le=1, description="Share of the steps until it counts.", examples=[0.8]
    )
    prepared: bool = Field(
        default=False,
        description="The picture is what the ControlNet reads already: edges, lines, depth. Else that is "
        "made of it, where the model says how.",
        examples=[False],
    )


class ReferenceOrder(BaseModel):
    """A picture whose looks are taken up."""

    model_config = ConfigDict(strict=True, extra="forbid")

    image: ImageSource = Field(description="The middle square of it is looked at.")
    weight: float = Field(
        default=1.0, gt=0, le=2, allow_inf_nan=False, description="How closely.", examples=[0.6]
    )


class GenerateRequest(BaseModel):
    """An order of `n` images of one prompt. What is left out, the style or the model decides."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {"prompt": PROMPT, "style_id": "icon"},
                {"prompt": PROMPT, "style_id": "icon", "seed": 7, "n": 4, "size": "128x128"},
            ]
        },
    )

    prompt: str = Field(
        min_length=1,
        description="What to draw; the style wraps its template around it. Control characters are "
        "removed. `limits.prompt_chars` of GET /v1/capabilities is the longest.",
        examples=[PROMPT],
    )
    negative_prompt: str = Field(
        default="",
        description="What to keep out, added to the style's own. As long as `prompt` at most.",
        examples=["text, watermark"],
    )
    style_id: str | None = Field(
        default=None,
        max_length=100,
        description="A style of GET /v1/styles. Left out or null: the default of the server's styles.",
        examples=["icon"],
    )
    seed: int | None = Field(
        default=-1,
        ge=-1,
        le=MAX_SEED,
        description="Image i is drawn from seed + i. -1 or null: drawn at random, and returned.",
        examples=[7],
    )
    n: int = Field(default=1, ge=1, le=ABSURD, description="Images.", examples=[1])
    width: int | None = Field(default=None, ge=1, le=ABSURD, description="Pixels.", examples=[128])
    height: int | None = Field(default=None, ge=1, le=ABSURD, description="Pixels.", examples=[128])
    size: Size | None = Field(
        default=None,
        description="`WIDTHxHEIGHT` in pixels, like 128x128, instead of `width` and `height`.",
        examples=[None],
    )
    steps: int | None = Field(
        default=None, ge=1, le=ABSURD, description="Denoising steps.", examples=[20]
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="How closely to follow the prompt. 1 or less: no guidance, half the work.",
        examples=[6.0],
    )
    guidance_rescale: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="0 to 1: how far guidance is brought back to the contrast it had without. "
        "Models that predict v want about 0.7.",
        examples=[0.0],
    )
    scheduler: str | None = Field(
        default=None, max_length=100, description="One the model lists.", examples=["dpmpp_2m"]
    )
    tile: Tile | None = Field(
        default=None,
        description="Draw a picture that repeats without a seam: along x, along y, or along both. Left out: "
        "as the style says, else none.",
        examples=["both"],
    )
    prompt_syntax: Literal["plain", "weighted"] | None = Field(
        default=None,
        description="`plain`: every sign is a word, and what is beyond the model's tokens is cut. "
        "`weighted`: `(words:1.2)`, `((words))`, `[words]` and `BREAK` mean what they mean in "
        "AUTOMATIC1111's web UI, and a prompt may have eight windows of tokens. Left out: the model "
        "decides.",
        examples=["weighted"],
    )
    clip_skip: int | None = Field(
        default=None,
        ge=1,
        le=MAX_CLIP_SKIP,
        description="2: read the text encoder's last but one layer, as many anime checkpoints want. SDXL "
        "always reads that one or an earlier one. Left out: the model decides.",
        examples=[1],
    )
    loras: list[LoraOrder] | None = Field(
        default=None,
        max_length=MAX_LORAS,
        description=f"At most {MAX_LORAS} of GET /v1/loras, added in this order. Left out: "
        "those of the style; `[]`: none.",
        examples=[[]],
    )
    init_image: ImageSource | None = Field(
        default=None,
        description="The picture to start from, instead of noise alone. One of another size than the "
        "order's is scaled until it covers that size, and cut off at both sides alike; transparent parts "
        "are laid on white.",
        examples=[None],
    )
    strength: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="With init_image: the share of the steps that are drawn, rounded down to whole ones. "
        "Near 0 little changes; with 1 little stays. Left out: 0.6, or 1 with a mask.",
        examples=[None],
    )
    mask_image: ImageSource | None = Field(
        default=None,
        description="Which part of init_image is drawn anew: where it is white, or transparent if any of it "
        "is. Of the size of init_image.",
        examples=[None],
    )
    control: list[ControlOrder] = Field(
        default=[],
        max_length=MAX_CONTROLS,
        description=f"At most {MAX_CONTROLS} pictures whose shapes are followed, by ControlNets that the "
        "model has here.",
        examples=[[]],
    )
    reference: ReferenceOrder | None = Field(
        default=None,
        description="A picture whose looks are taken up, by the IP-Adapter that the model has here.",
        examples=[None],
    )
    model: str | None = Field(
        default=None, max_length=100, description="A model of GET /v1/models.", examples=["starter"]
    )
    quality: Literal["full", "draft"] = Field(
        default="full",
        description="`draft` is cheaper, by what GET /v1/models says of it.",
        examples=["full"],
    )
    reproducible: Literal["strict"] | None = Field(
        default=None,
        description="`strict`: the same bytes whatever else is rendered at that time; slower.",
        examples=["strict"],
    )

    effects: list[Annotated[Any, EFFECT]] | None = Field(
        default=None,
        max_length=MOST_EFFECTS,
        description="What is done with each picture, in this order: see GET /v1/effects. The picture "
        "as it was drawn is kept beside the result. Left out: those of the style; `[]`: none.",
        examples=[[{"op": "cutout"}, {"op": "trim", "padding": 2}]],
    )
    require: dict[str, Any] | None = Field(
        default=None,
        max_length=MOST_GATES,
        description="Gates on each result: `coverage` {min, max}, `clear_border`, `seam`, `not_blank`, "
        "`unique`, `colors`. `quality` of an image has every score. Left out: those of the style.",
        examples=[{"coverage": {"min": 0.1, "max": 0.9}, "not_blank": True}],
    )
    redraws: int | None = Field(
        default=None,
        ge=0,
        le=MAX_REDRAWS,
        description="How often an image that fails a gate is drawn again. The seeds are those after "
        "the order's own, in a fixed order. Left out: as the style says, if the gates are its own.",
        examples=[2],
    )
    on_fail: Literal["keep", "fail"] = Field(
        default="keep",
        description="What becomes of an image that still fails a gate, or that an effect cannot be "
        "done on: `keep` the best one and say so in its notes, or `fail` the job.",
        examples=["keep"],
    )
    format: Literal["png", "webp"] = Field(
        default="png", description="Of the results; both are lossless.", examples=["png"]
    )

    priority: Literal["low", "normal", "high"] = Field(
        default="normal",
        description="Among your own jobs: `high` counts as ordered ten minutes earlier, `low` ten "
        "minutes later. It takes nothing from anybody else's share.",
        examples=["normal"],
    )
    tags: list[Tag] = Field(
        default=[],
        max_length=MAX_TAGS,
        description=f"At most {MAX_TAGS}, to find jobs by: letters, digits and `_ . : / -`.",
        examples=[["level-3", "potions"]],
    )
    metadata: dict[str, Any] = Field(
        default={},
        description=f"Yours; kept and returned as it is. At most {MAX_METADATA} bytes as JSON, "
        f"{MAX_DEPTH} levels deep.",
        examples=[{"slot": 7}],
    )
    webhook: str | None = Field(
        default=None,
        max_length=10_000,
        description="An https URL that is called when the job has ended, or when "
        "`webhook_events_filter` says. Left out: that of your key, if it has one.",
        examples=[None],
    )
    webhook_events_filter: list[HookEvent] | None = Field(
        default=None,
        min_length=1,
        max_length=len(EVENTS),
        description="What `webhook` is called for: `queued`, `started`, `output` (its files are "
        "published), `completed` (it has ended, in whatever way). Left out: `completed`.",
        examples=[None],
    )
    dry_run: bool = Field(
        default=False,
        description="Order nothing: say what the order would be, how long it would take, and "
        "whether it would be served.",
        examples=[False],
    )

    @field_validator("seed", "n", "width", "height", "steps", "clip_skip", "redraws", mode="before")
    @classmethod
    def _integral(cls, value: Any) -> Any:
        """JSON has one kind of number: some writers turn 7 into 7.0."""
        return int(value) if isinstance(value, float) and value.is_integer() else value

    @field_validator("tags")
    @classmethod
    def _each_once(cls, tags: list[str]) -> list[str]:
        return list(dict.fromkeys(tags))

    @field_validator("metadata")
    @classmethod
    def _small(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        if _depth_of(metadata) > MAX_DEPTH:
            raise PydanticCustomError(
                "too_deep", "Nested more than {levels} levels deep", {"levels": MAX_DEPTH}
            )
        try:
            size = len(json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode())
        except ValueError as error:
            raise PydanticCustomError("not_json", "Holds what JSON cannot") from error
        if size > MAX_METADATA:
            raise PydanticCustomError(
                "too_large", "More than {bytes} bytes as JSON", {"bytes": MAX_METADATA}
            )
        return metadata

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _one_clean_line(cls, text: str) -> str:
        return text.translate(_CLEANED).strip()

    @field_validator("prompt")
    @classmethod
    def _not_blank(cls, text: str) -> str:
        if not any(map(_visible, text)):
            raise PydanticCustomError("blank_prompt", "Needs at least one visible character")
        return text

    @field_validator("seed")
    @classmethod
    def _null_is_random(cls, seed: int | None) -> int:
        return -1 if seed is None else seed

    @model_validator(mode="after")
    def _one_way_to_say_size(self) -> GenerateRequest:
        if self.size is None:
            return self
        if self.width is not None or self.height is not None:
            raise InvalidField("size", "Give either size or width and height.")
        width, height = SIZE.findall(self.size)[0]
        self.width, self.height, self.size = int(width), int(height), None
        return self

    def order(self, sources: Mapping[str, SourceUse] = NO_SOURCES) -> Order:
        """`sources`: by field, what the pictures that it names are."""
        # Not by `model_dump`, which takes four times as long: a batch has 10,000 of them.
        drawn: dict[str, Any] = {field: getattr(self, field) for field in DRAWN}
        if self.loras is not None:
            drawn["loras"] = [one.model_dump() for one in self.loras]
        return Order(
            **drawn,
            init_image=sources.get("init_image"),
            mask_image=sources.get("mask_image"),
            control=[
                {**one.model_dump(exclude={"image"}), "image": sources[f"control.{i}.image"]}
                for i, one in enumerate(self.control)
            ],
            reference=self.reference
            and {"image": sources["reference.image"], "weight": self.reference.weight},
        )

    def pictures(self) -> dict[str, ImageSource]:
        """Those it names, by field."""
        named: dict[str, ImageSource | None] = {field: getattr(self, field) for field in FIELDS}
        named |= {f"control.{i}.image": one.image for i, one in enumerate(self.control)}
        if self.reference is not None:
            named["reference.image"] = self.reference.image
        return {field: source for field, source in named.items() if source is not None}

    def labels(self, client: str) -> Labels:
        """`client`: the client that fairness counts the order for."""
        return Labels(
            client=client,
            priority=self.priority,
            tags=self.tags,
            metadata=self.metadata,
            retry_of=None,
        )

    def body_hash(self) -> str:
        """Equal for two bodies that order the same, however they are written. A seed of -1 stays -1."""
        body = json.dumps(
            self.model_dump(exclude_defaults=True, exclude={"dry_run"}), sort_keys=True
        )
        return hashlib.sha256(body.encode()).hexdigest()


DRAWN = [
    name for name in GenerateRequest.model_fields if name not in {*NOT_DRAWN, *FIELDS, *NESTED}
]
"""Fields that `resolve` takes as they are, but for LoRAs."""


class DeriveRequest(BaseModel):
    """Effects on pictures of a job that has ended; nothing is drawn."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [{"effects": [{"op": "cutout"}, {"op": "pixelate", "width": 32}]}]
        },
    )

    effects: list[Annotated[Any, EFFECT]] = Field(
        min_length=1,
        description="In this order: see GET /v1/effects.",
        examples=[[{"op": "cutout"}, {"op": "trim"}]],
    )
    indices: list[int] | None = Field(
        default=None,
        min_length=1,
        description="Which images of the job, by `index`, each once; left out: all.",
        examples=[[0]],
    )
    format: Literal["png", "webp"] = Field(
        default="png", description="Of the results; both are lossless.", examples=["png"]
    )
    tags: list[Tag] | None = Field(
        default=None,
        max_length=MAX_TAGS,
        description="Left out: those of the job.",
        examples=[["level-3"]],
    )


def _visible(char: str) -> bool:
    """Neither space, control, format character nor lone accent, nor a letter that is drawn as nothing."""
    return unicodedata.category(char)[0] in "LNPS" and char not in _BLANK_LETTERS


def _depth_of(value: Any) -> int:
    """Levels of nesting. A loop and no recursion: a client may nest deeper than the stack allows."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [x for v in level for x in (v.values() if isinstance(v, dict) else v)]
    return depth
