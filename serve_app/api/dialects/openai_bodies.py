"""Bodies of OpenAI's image interface: what its clients send as an order of ours, and what they read.

Knows names of fields; no route, and no picture's bytes. What is sent beyond OpenAI's own fields is taken for
a field of our own order, if there is one, and ignored otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve_app.api.dialects.held import order_of
from serve_app.api.dialects.pictures import LOSSLESS, Packing, PictureFormat
from serve_app.api.dialects.wording import Reworded, sentence
from serve_app.api.schemas import GenerateRequest
from serve_app.api.service import JobService
from serve_app.errors import InvalidField
from serve_app.messages import JobView

THEIR_MODELS = ("gpt-image", "chatgpt-image", "dall-e")
"""Names of OpenAI's own models begin so. Programs have them built in: here they mean the active model."""
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
_CODES = {"safety_flagged": "moderation_blocked"}  # codes that OpenAI's clients look for
_WORTH_REPEATING = {408, 429, 503}


class ImagesRequest(BaseModel):
    """An order as OpenAI's clients send it. Any other field of an order of POST /v1/generate may stand beside
    these, as `style_id` or `seed`."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    prompt: str = Field(description="What to draw.", examples=["a red potion in a round bottle"])
    model: str | None = Field(
        default=None,
        description="One of GET /v1/models; a name of OpenAI's own means the active one.",
        examples=["gpt-image-2"],
    )
    n: int | None = Field(default=None, ge=1, description="Images.", examples=[1])
    size: str | None = Field(
        default=None, description="`auto`, or like 128x128.", examples=["auto"]
    )
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"] | None = (
        Field(default=None, description="`low` draws drafts; all else is full.", examples=["auto"])
    )
    output_format: PictureFormat | None = Field(
        default=None, description="`png` if left out.", examples=["png"]
    )
    output_compression: int | None = Field(
        default=None, ge=0, le=100, description="Quality of JPEG and WebP.", examples=[None]
    )
    background: Literal["auto", "transparent", "opaque"] | None = Field(
        default=None,
        description="`transparent`: cut out, or the order fails; `opaque`: never; otherwise as the style "
        "has it.",
        examples=["auto"],
    )
    response_format: Literal["url", "b64_json"] | None = Field(
        default=None,
        description="`b64_json` if left out, and `url` for the models dall-e.",
        examples=["b64_json"],
    )
    stream: bool | None = Field(default=None, description="Answer with events.", examples=[False])
    partial_images: int | None = Field(
        default=None, ge=0, le=3, description="Looks at what is being drawn.", examples=[None]
    )
    user: str | None = Field(default=None, max_length=512, description="Kept in `metadata`.")
    safety_identifier: str | None = Field(
        default=None, max_length=512, description="Kept in `metadata`; counts before `user`."
    )
    num_inference_steps: int | None = Field(default=None, description="`steps`, as others say.")

    @property
    def packing(self) -> Packing:
        """Raises InvalidField for a picture that cannot be sent so."""
        packing = Packing(
            self.output_format or "png",
            LOSSLESS if self.output_compression is None else self.output_compression,
        )
        if self.as_url and not packing.as_stored:
            text = "a URL leads to the stored file, which is a PNG, or a WebP without loss"
            raise InvalidField("output_format", text, ["png", "webp"])
        if self.background == "transparent" and packing.format == "jpeg":
            raise InvalidField("background", "JPEG has no transparency", ["auto", "opaque"])
        return packing

    @property
    def as_url(self) -> bool:
        if self.stream:
            return False
        old = (self.model or "").startswith("dall-e")
        return (self.response_format or ("url" if old else "b64_json")) == "url"

    def order(self, service: JobService, **more: Any) -> GenerateRequest:
        """`more`: fields of the order. Raises RequestValidationError, InvalidField."""
        own = {
            name: value
            for name, value in (self.model_extra or {}).items()
            if name in GenerateRequest.model_fields and name != "dry_run"
        }
        said: dict[str, Any] = {
            "prompt": self.prompt,
            "n": self.n,
            "size": None if self.size == "auto" else self.size,
            "model": None if (self.model or "").startswith(THEIR_MODELS) else self.model,
            "steps": self.num_inference_steps,
            "quality": "draft" if self.quality == "low" else None,
            "format": self.packing.stored,
            "metadata": {"user": self.for_whom} if self.for_whom else None,
            **more,
        }
        order = order_of(own | {name: value for name, value in said.items() if value is not None})
        return _with_background(order, self.background, service)

    @property
    def for_whom(self) -> str | None:
        return self.safety_identifier or self.user or None


def _with_background(
    order: GenerateRequest, background: str | None, service: JobService
) -> GenerateRequest:
    """The order whose effects give this background. Raises InvalidField."""
    if background not in ("transparent", "opaque"):
        return order
    # What it is drawn from says nothing of effects, and is not looked up for this.
    plain = order.model_copy(update={"init_image": None, "mask_image": None, "strength": None})
    finishing = service.resolve(plain.order()).finishing
    effects = [*finishing.effects] if finishing else []
    changes: dict[str, Any]
    if background == "opaque":
        changes = {"effects": [effect for effect in effects if effect["op"] != "cutout"]}
    else:
        # A gate, so that a ground which cannot be cut fails the order: it never comes as if it were cut.
        require = dict(finishing.require or {}) if finishing else {}
        cut = any(effect["op"] == "cutout" for effect in effects)
        changes = {
            "effects": effects if cut else [{"op": "cutout"}, *effects],
            "require": {**require, "coverage": {"max": 0.999, **require.get("coverage", {})}},
            "redraws": finishing.redraws if finishing else 0,
            "on_fail": "fail",
        }
    return order.model_copy(update=changes)


class GeneratedImage(BaseModel):
    """One picture: its bytes, or where they are."""

    b64_json: str | None = Field(default=None, description="The file.", examples=["iVBORw0KGgo="])
    url: str | None = Field(default=None, description="Where it is.", examples=[None])
    revised_prompt: str = Field(
        description="What the model was given.", examples=["a red potion, game icon"]
    )
    seed: int = Field(description="It was drawn from.", examples=[7])


class ImagesReply(BaseModel):
    """Finished pictures, as OpenAI's clients read them."""

    created: int = Field(description="Unix seconds.", examples=[1_796_000_000])
    data: list[GeneratedImage] = Field(description="By index.")
    background: str = Field(description="transparent or opaque.", examples=["opaque"])
    output_format: str = Field(description="png, webp or jpeg.", examples=["png"])
    quality: str = Field(description="low or high.", examples=["high"])
    size: str = Field(description="Of the first picture.", examples=["128x128"])
    usage: dict[str, Any] = Field(description="No tokens are counted here: all are 0.")
    job_id: str = Field(description="The job: GET /v1/jobs has the rest.")
    notes: list[str] = Field(description="What you should know, of every picture.", examples=[[]])


NO_TOKENS: dict[str, Any] = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}


def described(job: JobView, packing: Packing) -> dict[str, str]:
    """What an answer says of all its pictures. Of a job without any yet, what was ordered."""
    images, params = job["images"], job["params"]
    clear = bool(images) and all(image["has_alpha"] for image in images)
    width, height = params["width"], params["height"]
    if images:
        width, height = images[0]["width"], images[0]["height"]
    return {
        "background": "transparent" if clear and packing.format != "jpeg" else "opaque",
        "output_format": packing.format,
        "quality": "low" if params["quality"] == "draft" else "high",
        "size": f"{width}x{height}",
    }


def reworded(problem: Mapping[str, Any]) -> Reworded:
    """A problem as OpenAI's clients read it. They try again by themselves, unless they are told not to."""
    status, code = problem["status"], problem["code"]
    status = 400 if status in (413, 415, 422) else status
    fields = problem.get("errors") or [{}]
    error = {
        "message": sentence(problem),
        "type": _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        "param": fields[0].get("field"),
        "code": _CODES.get(code, code),
    }
    repeat = "true" if status in _WORTH_REPEATING else "false"
    return Reworded(status, {"error": error}, {"x-should-retry": repeat})
