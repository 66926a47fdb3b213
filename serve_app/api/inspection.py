"""What made a picture file, as clients get it, with an order that this server would take.

Knows the answer's fields. `artifacts/inspection/` reads the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.api.schemas import GenerateRequest
from serve_app.artifacts.inspection.inspect import Inspected
from serve_app.artifacts.inspection.recipe import Recipe
from serve_app.catalog.resolve import Order
from serve_app.errors import InvalidField
from serve_app.params import GenerationParams

MEDIA_TYPES = ("image/png", "image/webp", "image/jpeg", "application/octet-stream")
_TOGETHER = {"width": ("width", "height"), "height": ("width", "height")}


class CredentialsReply(BaseModel):
    """What an embedded manifest says, and whether its signature holds. Whose it is, is the signer's own word
    unless it is `trusted`."""

    state: str = Field(
        description="`invalid`: changed since, or badly signed; `valid`: the signature holds; `trusted`: and "
        "its root is known.",
        examples=["valid"],
    )
    signed_by: str = Field(description="The organisation.", examples=["Studio Nord"])
    generator: str = Field(description="The program.", examples=["AI Asset Generator"])
    title: str = Field(description="Of the picture.", examples=["key.png"])
    actions: list[str] = Field(
        description="What was done, in order.",
        examples=[["c2pa.created (trainedAlgorithmicMedia)", "c2pa.edited (cutout)"]],
    )
    ingredients: list[str] = Field(description="What it was made of.", examples=[[]])
    problems: list[str] = Field(
        description="Codes of the specification.", examples=[["assertion.dataHash.mismatch"]]
    )


class C2paReply(BaseModel):
    """Content credentials that the file has."""

    size_bytes: int = Field(description="Of the embedded manifest; 0: none.", examples=[0])
    remote_url: str = Field(
        description="Where another manifest is said to lie. It was not fetched.", examples=[""]
    )
    credentials: CredentialsReply | None = Field(
        description="Null: none is embedded, or this server has no `c2pa` to read it.",
        examples=[None],
    )


class RecipeReply(BaseModel):
    """How the picture was made, as the program that made it wrote down."""

    model_config = ConfigDict(hide_input_in_errors=True)

    program: str = Field(
        description="`ai-asset-generator` is this one; others: `automatic1111`, `comfyui`, `invokeai`, "
        "`novelai`, `draw_things`, `swarmui`, `fooocus`.",
        examples=["comfyui"],
    )
    prompt: str = Field(description="What was drawn.", examples=["a castle on a hill"])
    negative_prompt: str = Field(description="What was kept out.", examples=["watermark"])
    seed: int | None = Field(description="Of this picture.", examples=[7])
    steps: int | None = Field(description="Denoising steps.", examples=[25])
    guidance_scale: float | None = Field(description="Guidance.", examples=[7.5])
    sampler: str = Field(description="As that program calls it.", examples=["euler_ancestral"])
    schedule: str = Field(description="As that program calls it.", examples=["karras"])
    model: str = Field(description="As that program calls it.", examples=["sdxl.safetensors"])
    width: int | None = Field(description="Drawn at, pixels.", examples=[1024])
    height: int | None = Field(description="Drawn at, pixels.", examples=[576])
    record: dict[str, Any] = Field(
        description="All that this service wrote into a file of its own.", examples=[{}]
    )

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        return cls.model_validate(recipe, from_attributes=True)


class InspectReply(BaseModel):
    """What a picture file says of itself. Nothing of it is proven: whoever can write a file can lie."""

    model_config = ConfigDict(hide_input_in_errors=True)

    format: str = Field(description="png, webp or jpeg.", examples=["png"])
    width: int = Field(description="Pixels.", examples=[1024])
    height: int = Field(description="Pixels.", examples=[576])
    size_bytes: int = Field(description="Of the file.", examples=[812_345])
    sha256: str = Field(description="Of the file.", examples=["9f86d081" * 8])
    pixels_sha256: str | None = Field(
        description="Of `WIDTHxHEIGHT`, a newline and the pixels as RGBA; null: not decoded.",
        examples=["2c26b46b" * 8],
    )
    dhash: str | None = Field(
        description="How it looks, 64 bits: alike pictures differ in few.",
        examples=["0f1e3c78f0e1c387"],
    )
    ai_made: bool = Field(description="It says that a model made it.", examples=[True])
    source_type: str = Field(
        description="The IPTC's word for its origin.", examples=["trainedAlgorithmicMedia"]
    )
    software: str = Field(description="What wrote the file.", examples=["AI Asset Generator 0.1.0"])
    recipe: RecipeReply | None = Field(description="Null: nothing that is understood here.")
    order: dict[str, Any] | None = Field(
        description="The body of a POST /v1/generate that this server would take, near to it. What it "
        "cannot have here is left out, and `notes` says what and why.",
        examples=[{"prompt": "a castle on a hill", "style_id": "none", "seed": 7}],
    )
    c2pa: C2paReply | None = Field(description="Null: it has none.")
    texts: dict[str, str] = Field(
        description="Every text in the file; long ones are cut.",
        examples=[{"Software": "ComfyUI"}],
    )
    notes: list[str] = Field(
        description="What could not be read, and why: `truncated`, `not_decoded`, `text_too_large`, "
        "`c2pa_remote`, `c2pa_too_large`, `not_here`.",
        examples=[["not_here: width: 1024x576 ..."]],
    )

    @classmethod
    def of(cls, found: Inspected, resolve: Callable[[Order], GenerationParams]) -> Self:
        order, notes = None, list[str]()
        if found.recipe is not None and found.recipe.order:
            order, notes = order_here(found.recipe.order, resolve)
        imprint = found.imprint
        return cls(
            format=found.format,
            width=found.width,
            height=found.height,
            size_bytes=found.size_bytes,
            sha256=found.sha256,
            pixels_sha256=imprint and imprint.pixels_sha256,
            dhash=imprint and imprint.dhash,
            ai_made=found.ai_made,
            source_type=found.source_type,
            software=found.software,
            recipe=found.recipe and RecipeReply.of(found.recipe),
            order=order,
            c2pa=found.c2pa and C2paReply.model_validate(found.c2pa, from_attributes=True),
            texts=found.texts,
            notes=[*found.notes, *notes],
        )


def order_here(
    order: dict[str, Any], resolve: Callable[[Order], GenerationParams]
) -> tuple[dict[str, Any] | None, list[str]]:
    """The order without what this server refuses, and a note for each such field. None: without its prompt
    nothing is left."""
    notes: list[str] = []
    order = dict(order)
    for field in ("init_image", "mask_image", "control", "reference", "strength"):
        if order.pop(field, None) is not None and field != "strength":
            notes.append(f"not_here: {field}: bring the picture again; the record has its hash")
    while True:
        try:
            resolve(GenerateRequest.model_validate(order).order())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field, why = str(first["loc"][0]), first["msg"]
        except InvalidField as error:
            field, why = error.field, error.detail.removeprefix(f"{error.field}: ")
        else:
            return order, notes
        notes.append(f"not_here: {field}: {why}")
        without = _TOGETHER.get(field, (field,))
        if field == "prompt" or not order.keys() & set(without):
            return None, notes
        order = {name: value for name, value in order.items() if name not in without}
