"""Bodies of AUTOMATIC1111's web UI: what its clients send as an order of ours, and what they read.

Knows names of fields. What is sent beyond those is named in a note; a field of our own order may stand beside
them, as `effects` or `quality`. Some clients put credentials into bodies, so no value of one is repeated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serve_app.api.catalog import Catalog
from serve_app.api.dialects.held import order_of
from serve_app.api.dialects.wording import Reworded, sentence
from serve_app.api.schemas import GenerateRequest
from serve_app.artifacts.png import infotext
from serve_app.catalog.schedulers import SCHEDULERS
from serve_app.catalog.styles import NONE
from serve_app.errors import InvalidField
from serve_app.messages import ImageFile, JobView
from serve_app.params import GenerationParams

TAG = "a1111"
"""Of every job that came this way: progress and interrupt look for it."""
AUTOMATIC = ("", "automatic", "use same scheduler", "none")
_LORA = re.compile(r"<lora:([^:<>]{1,100})(?::(-?[0-9.]{1,8}))?(?::[^<>]*)?>")
_QUIET = {
    *("do_not_save_samples", "do_not_save_grid", "send_images", "save_images", "script_args"),
    *(
        "override_settings_restore_afterwards",
        "sampler_index",
        "eta",
        "s_noise",
        "s_tmax",
        "s_min_uncond",
    ),
    *(
        "hr_upscaler",
        "hr_scale",
        "force_task_id",
        "denoising_strength",
        "image_cfg_scale",
        "url",
        "auth",
    ),
    *("mask_blur", "inpaint_full_res", "inpaint_full_res_padding", "resize_mode", "comments"),
}
"""Fields that change nothing here, or count only beside another one that is named then."""
_DRAWN_OTHERWISE = {"mask_blur": 4, "resize_mode": 0, "inpaint_full_res": True}
"""Of a picture with a mask: their defaults. Other values are named in a note."""


class Text2Image(BaseModel):
    """An order as the web UI's clients send it."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    prompt: str = Field(default="", description="`<lora:name:weight>` adds a LoRA of ours.")
    negative_prompt: str | None = Field(default="", description="What to keep out.")
    styles: list[str] | None = Field(default=None, description="One of GET /v1/styles.")
    seed: int | None = Field(default=-1, description="-1: drawn at random.")
    batch_size: int | None = Field(default=1, ge=1, description="Images; times `n_iter`.")
    n_iter: int | None = Field(default=1, ge=1, description="Images; times `batch_size`.")
    steps: int | None = Field(default=None, description="Left out: as the model does best.")
    cfg_scale: float | None = Field(default=None, description="Guidance.")
    width: int | None = Field(default=None, description="Pixels.")
    height: int | None = Field(default=None, description="Pixels.")
    sampler_name: str | None = Field(default=None, description="As GET samplers lists them.")
    scheduler: str | None = Field(default=None, description="As GET schedulers lists them.")
    tiling: bool | None = Field(default=None, description="Repeats without a seam.")
    override_settings: dict[str, Any] | None = Field(
        default=None, description="`sd_model_checkpoint`, `CLIP_stop_at_last_layers`."
    )
    send_images: bool | None = Field(default=True, description="False: no pictures in the answer.")

    def order(self, catalog: Catalog, **more: Any) -> tuple[GenerateRequest, list[str]]:
        """The order, and notes on what of the body has no effect. Raises RequestValidationError,
        InvalidField."""
        notes: list[str] = []
        prompt, loras = _without_loras(self.prompt)
        settings = self.override_settings or {}
        model = _model(settings.get("sd_model_checkpoint"), catalog, catalog.served)
        ours = {
            name: value
            for name, value in (self.model_extra or {}).items()
            if name in GenerateRequest.model_fields and name not in ("dry_run", "n")
        }
        said: dict[str, Any] = {
            "prompt": prompt,
            "negative_prompt": self.negative_prompt,
            "style_id": self._style() if self.styles or "style_id" not in ours else None,
            "seed": self.seed,
            "n": (self.batch_size or 1) * (self.n_iter or 1),
            "width": self.width,
            "height": self.height,
            "steps": self.steps,
            "guidance_scale": self.cfg_scale,
            "model": model,
            "scheduler": self._scheduler(catalog.schedulers_of(model or ours.get("model")), notes),
            "tile": "both" if self.tiling else None,
            "clip_skip": settings.get("CLIP_stop_at_last_layers"),
            "loras": loras or None,
            "tags": _with_tag(ours.get("tags")),
            **more,
        }
        unknown = _unknown(self.model_extra or {}, settings, ours)
        if unknown:
            notes.append(f"ignored: {', '.join(unknown)}")
        return order_of(ours | {name: v for name, v in said.items() if v is not None}), notes

    def _style(self) -> str:
        """Without one the prompt is drawn as it stands, as the web UI does."""
        if not self.styles:
            return NONE.id
        if len(self.styles) > 1:
            raise InvalidField("styles", "one style can be applied to an order")
        return self.styles[0]

    def _scheduler(self, listed: Sequence[str], notes: list[str]) -> str | None:
        """None: that of the style or the model. A sampler of the web UI that the model does not draw with is
        replaced by its own, and a note says so. `listed`: those of the model. Raises InvalidField for a name
        that is none."""
        older = (self.model_extra or {}).get("sampler_index")  # a number means nothing any more
        sampler = (self.sampler_name or (older if isinstance(older, str) else "")).strip()
        schedule = (self.scheduler or "").strip()
        if not sampler or sampler.lower() == "automatic":
            return None
        if sampler in SCHEDULERS:
            return sampler
        fits = scheduler_named(sampler, schedule, listed)
        if fits is not None:
            return fits
        if not any(spec.sampler.lower() == sampler.lower() for spec in SCHEDULERS.values()):
            raise InvalidField("sampler_name", "no such sampler", sampler_names(listed))
        wanted = f"{sampler} {schedule}".strip()
        notes.append(f"sampler: {wanted} is not of this model, which used {listed[0]}")
        return None


class Image2Image(Text2Image):
    """An order that starts from a picture."""

    init_images: list[str] = Field(min_length=1, description="The first one, in base64.")
    denoising_strength: float | None = Field(default=0.75, description="0 to 1.")
    mask: str | None = Field(default=None, description="White is drawn anew; in base64.")
    inpainting_mask_invert: int | None = Field(default=0, description="1: black is drawn anew.")


def check_model(named: object, catalog: Catalog) -> None:
    """Of options that hold for every later order: raises InvalidField unless it is the active model, or
    nothing."""
    _model(named, catalog, [catalog.capabilities.model], "options")


def _model(
    named: object, catalog: Catalog, allowed: Sequence[str], field: str = "override_settings"
) -> str | None:
    """None: nothing is named. Raises InvalidField for what is not `allowed`."""
    if named in (None, ""):
        return None
    name = str(named).partition(" [")[0]
    if name in allowed:
        return name
    why = "is not being served"
    if name in catalog.served:
        why = "is one model of several: name it in `override_settings` of each order"
    raise InvalidField(f"{field}.sd_model_checkpoint", why, list(allowed))


def scheduler_named(sampler: str, schedule: str, listed: Sequence[str]) -> str | None:
    """Our name of the web UI's two. `listed`: those of the model, the best first."""
    found = [
        name
        for name in listed
        if SCHEDULERS[name].sampler.lower() == sampler.lower()
        or f"{SCHEDULERS[name].sampler} {SCHEDULERS[name].schedule}".lower() == sampler.lower()
    ]
    if schedule.lower() in AUTOMATIC:
        return found[0] if found else None
    return next(
        (name for name in found if (SCHEDULERS[name].schedule or "").lower() == schedule.lower()),
        found[0] if found else None,
    )


def sampler_names(listed: Sequence[str]) -> list[str]:
    """As the web UI calls them, each once."""
    return list(dict.fromkeys(SCHEDULERS[name].sampler for name in listed))


def _without_loras(prompt: str) -> tuple[str, list[dict[str, Any]]]:
    loras = [{"name": m[1], "weight": _weight(m[2])} for m in _LORA.finditer(prompt)]
    return _LORA.sub("", prompt).strip(), loras


def _weight(text: str | None) -> float:
    try:
        return float(text or 1.0)
    except ValueError:
        raise InvalidField("prompt", f"no weight of a LoRA: {text!r}") from None


def _unknown(
    extra: Mapping[str, Any], settings: Mapping[str, Any], ours: Mapping[str, Any]
) -> list[str]:
    """Names of fields that ask for something which is not done here."""
    found = [
        name
        for name, value in extra.items()
        if name not in ours and name not in _QUIET and _asks(value)
    ]
    known = ("sd_model_checkpoint", "CLIP_stop_at_last_layers")
    found += [
        f"override_settings.{name}"
        for name, value in settings.items()
        if name not in known and _asks(value)
    ]
    found += [
        name
        for name, neutral in _DRAWN_OTHERWISE.items()
        if name in extra and extra[name] != neutral
    ]
    return [name[:60] for name in found[:40]]


def _with_tag(tags: object) -> object:
    """What is no list is left as it is: the order's own check says so."""
    return [*tags, TAG] if isinstance(tags, list) else tags or [TAG]


def _asks(value: object) -> bool:
    """Clients send everything they know, and of what they do not use one of these."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value not in (0, 1, -1)
    return value not in (None, False, "", "None", "Automatic", [], {})


class ImagesAnswer(BaseModel):
    """Finished pictures, as the web UI's clients read them."""

    images: list[str] = Field(description="PNG files in base64.")
    parameters: dict[str, Any] = Field(description="What was ordered, every choice made.")
    info: str = Field(description="JSON in a text: seeds, prompts, `notes`, `job_id`.")


def info_of(job: JobView, images: Sequence[ImageFile], notes: Sequence[str]) -> str:
    """The text `info` of an answer."""
    params = GenerationParams.model_validate(job["params"])
    own = [note for image in images for note in image["notes"]]
    info = {
        "prompt": params.subject,
        "all_prompts": [params.prompt] * len(images),
        "negative_prompt": params.subject_negative,
        "all_negative_prompts": [params.negative_prompt] * len(images),
        "seed": params.seed,
        "all_seeds": [image["seed"] for image in images],
        "subseed": -1,
        "all_subseeds": [-1] * len(images),
        "subseed_strength": 0,
        "width": params.width,
        "height": params.height,
        "sampler_name": SCHEDULERS[params.scheduler].sampler,
        "cfg_scale": params.guidance_scale,
        "steps": params.steps,
        "batch_size": len(images),
        "sd_model_name": params.model,
        "sd_model_hash": params.model_revision[:10],
        "clip_skip": params.clip_skip,
        "styles": [] if params.style_id == NONE.id else [params.style_id],
        "infotexts": [infotext(params, image["index"]) for image in images],
        "index_of_first_image": 0,
        "job_timestamp": stamp_of(job["created_at"]),
        "is_using_inpainting_conditioning": False,
        "job_id": job["job_id"],
        "notes": list(dict.fromkeys([*notes, *own])),
    }
    return json.dumps(info)


def stamp_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S")


def reworded(problem: Mapping[str, Any]) -> Reworded:
    """A problem as the web UI's clients read it."""
    fields = problem.get("errors") or []
    body = {
        "error": problem["title"],
        "detail": sentence(problem),
        "body": "",
        "errors": "; ".join(f"{one['field']}: {one['detail']}" for one in fields),
        "code": problem["code"],
    }
    return Reworded(problem["status"], body, {})
