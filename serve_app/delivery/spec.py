"""SheetSpec: what an order of a sheet may ask for, with the bounds of every field.

Knows nothing of pictures: whether a clip's frames exist is seen by `sheet.pack`, which has both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from serve_app.delivery.names import name_problem
from serve_app.errors import InvalidField

Format = Literal[
    "texturepacker_hash", "texturepacker_array", "aseprite", "godot", "unity", "tiled", "css"
]
FORMATS: tuple[Format, ...] = get_args(Format)

MAX_CLIPS = 200
MAX_CLIP_FRAMES = 1_000
MIN_FPS, MAX_FPS = 0.1, 240.0
MAX_SIDE = 8_192  # pixels: more than this not every graphics card takes as one texture


def _named(name: str) -> str:
    if wrong := name_problem(name):
        raise PydanticCustomError("name", "{why}", {"why": wrong})
    return name


def _once_each(formats: tuple[Format, ...]) -> tuple[Format, ...]:
    if len(set(formats)) < len(formats):
        raise PydanticCustomError("twice", "A format is listed twice")
    return formats


Name = Annotated[str, AfterValidator(_named)]


class Clip(BaseModel):
    """An animation: names of frames in the order they are shown; a frame may come more than once."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name = Field(description="What engines call it.", examples=["walk"])
    frames: tuple[str, ...] = Field(
        min_length=1,
        max_length=MAX_CLIP_FRAMES,
        strict=False,  # JSON has lists only
        description="Names of pictures on the sheet.",
        examples=[["hero_0", "hero_1"]],
    )
    fps: float = Field(
        ge=MIN_FPS,
        le=MAX_FPS,
        allow_inf_nan=False,
        description="Frames per second.",
        examples=[12],
    )
    loop: bool = Field(
        default=True, description="False: it stops at its last frame.", examples=[True]
    )


class SheetSpec(BaseModel):
    """How pictures become a sheet, and which files tell engines about it. Lengths are pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name = Field(
        default="sheet", description="Every file's name starts with it.", examples=["icons"]
    )
    formats: Annotated[tuple[Format, ...], AfterValidator(_once_each)] = Field(
        default=("texturepacker_hash",),
        min_length=1,
        strict=False,
        description="What is written beside the pages.",
        examples=[["texturepacker_hash", "godot"]],
    )
    padding: int = Field(
        default=2, ge=0, le=64, description="Empty between two pictures.", examples=[2]
    )
    extrude: int = Field(
        default=0,
        ge=0,
        le=16,
        description="Copies of a picture's edge around it, against seams.",
        examples=[0],
    )
    max_size: int = Field(
        default=4_096, ge=16, le=MAX_SIDE, description="Of a page's sides.", examples=[2048]
    )
    power_of_two: bool = Field(
        default=False, description="Sides of pages: 16, 32, ... max_size.", examples=[False]
    )
    trim: bool = Field(
        default=True,
        description="Cut transparent rims off; formats say what was cut.",
        examples=[True],
    )
    filter: Literal["linear", "nearest"] = Field(
        default="linear",
        description="How an engine scales it; nearest for pixel art.",
        examples=["nearest"],
    )
    pixels_per_unit: int = Field(
        default=100, ge=1, le=10_000, description="Unity's scale.", examples=[100]
    )
    clips: tuple[Clip, ...] = Field(
        default=(),
        max_length=MAX_CLIPS,
        strict=False,
        description="Animations of the pictures, by their names.",
        examples=[[{"name": "walk", "frames": ["hero_0", "hero_1"], "fps": 12}]],
    )

    @field_validator("padding", "extrude", "max_size", "pixels_per_unit", mode="before")
    @classmethod
    def _integral(cls, value: Any) -> Any:
        """JSON has one kind of number: some writers turn 2 into 2.0."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


def spec_of(values: Mapping[str, Any]) -> SheetSpec:
    """Raises InvalidField: the first wrong field as a dotted path, and what it may be."""
    try:
        return SheetSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidField(field, first["msg"], _allowed(first["loc"])) from error


def _allowed(path: Sequence[int | str]) -> Sequence[str] | None:
    """Names that could stand there instead: formats, or the fields of the object it is in."""
    match path:
        case ("formats", *_):
            return FORMATS
        case ("clips", int(), field) if field not in Clip.model_fields:
            return list(Clip.model_fields)
        case (field,) if field not in SheetSpec.model_fields:
            return list(SheetSpec.model_fields)
        case _:
            return None
