"""How each program writes into a picture what made it: the order in which they are tried, and the small ones.

Knows keywords and JSON. A text that is not what it seems is passed over, and the next dialect is tried.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from serve_app.artifacts.inspection.a1111 import read_infotext
from serve_app.artifacts.inspection.comfyui import read_graph
from serve_app.artifacts.inspection.recipe import Recipe, number, text, whole

OURS = "ai-asset-generator"

Texts = Mapping[str, str]
"""Keyword -> text, of PNG chunks, EXIF tags (`UserComment`) and XMP's comment (`xmp:UserComment`)."""


def read_recipe(texts: Texts) -> Recipe | None:
    for read in DIALECTS:
        if (recipe := read(texts)) is not None:
            return recipe
    return None


def ours(texts: Texts) -> Recipe | None:
    record = _object(texts.get("job") or texts.get("ImageDescription"))  # the latter in a WebP
    if record.get("kind") == "sheet" and isinstance(record.get("sources"), list):
        return Recipe(program=OURS, record=record)
    params, order = record.get("params"), record.get("order")
    if not isinstance(params, dict) or not isinstance(order, dict) or "schema" not in record:
        return None
    return Recipe(
        program=OURS,
        prompt=text(params.get("prompt")),
        negative_prompt=text(params.get("negative_prompt")),
        seed=whole(order.get("seed")),
        steps=whole(params.get("steps")),
        guidance_scale=number(params.get("guidance_scale")),
        sampler=text(params.get("scheduler")),
        model=text(params.get("model")),
        width=whole(params.get("width")),
        height=whole(params.get("height")),
        record=record,
    )


def swarmui(texts: Texts) -> Recipe | None:
    for said in _parameters(texts):
        params = _object(said).get("sui_image_params")
        if isinstance(params, dict):
            return Recipe(
                program="swarmui",
                prompt=text(params.get("prompt")),
                negative_prompt=text(params.get("negativeprompt")),
                seed=whole(params.get("seed")),
                steps=whole(params.get("steps")),
                guidance_scale=number(params.get("cfgscale")),
                sampler=text(params.get("sampler")),
                schedule=text(params.get("scheduler")),
                model=text(params.get("model")),
                width=whole(params.get("width")),
                height=whole(params.get("height")),
            )
    return None


def fooocus(texts: Texts) -> Recipe | None:
    for said in _parameters(texts):
        params = _object(said)
        if "prompt" in params and "base_model" in params:
            sides = re.findall(r"\d{1,6}", str(params.get("resolution", ""))[:40])
            return Recipe(
                program="fooocus",
                prompt=text(params["prompt"]),
                negative_prompt=text(params.get("negative_prompt")),
                seed=whole(params.get("seed")),
                steps=whole(params.get("steps")),
                guidance_scale=number(params.get("guidance_scale")),
                sampler=text(params.get("sampler")),
                schedule=text(params.get("scheduler")),
                model=text(params["base_model"]),
                width=whole(sides[0]) if len(sides) == 2 else None,
                height=whole(sides[1]) if len(sides) == 2 else None,
            )
    return None


def invokeai(texts: Texts) -> Recipe | None:
    said = _object(texts.get("invokeai_metadata"))
    if not said:
        return None
    model = said.get("model")
    named: Any = model.get("name", model.get("model_name")) if isinstance(model, dict) else model
    return Recipe(
        program="invokeai",
        prompt=text(said.get("positive_prompt")),
        negative_prompt=text(said.get("negative_prompt")),
        seed=whole(said.get("seed")),
        steps=whole(said.get("steps")),
        guidance_scale=number(said.get("cfg_scale", said.get("guidance"))),
        sampler=text(said.get("scheduler")),
        model=text(named),
        width=whole(said.get("width")),
        height=whole(said.get("height")),
    )


def novelai(texts: Texts) -> Recipe | None:
    said = _object(texts.get("Comment"))
    if texts.get("Software") != "NovelAI" or not said:
        return None
    return Recipe(
        program="novelai",
        prompt=text(texts.get("Description")) or text(said.get("prompt")),
        negative_prompt=text(said.get("uc")),
        seed=whole(said.get("seed")),
        steps=whole(said.get("steps")),
        guidance_scale=number(said.get("scale")),
        sampler=text(said.get("sampler")),
        schedule=text(said.get("noise_schedule")),
        model=text(texts.get("Source")),
        width=whole(said.get("width")),
        height=whole(said.get("height")),
    )


def draw_things(texts: Texts) -> Recipe | None:
    said = _object(texts.get("xmp:UserComment"))
    if "c" not in said or "sampler" not in said:
        return None
    width, _, height = text(said.get("size")).partition("x")
    return Recipe(
        program="draw_things",
        prompt=text(said["c"]),
        negative_prompt=text(said.get("uc")),
        seed=whole(said.get("seed")),
        steps=whole(said.get("steps")),
        guidance_scale=number(said.get("scale")),
        sampler=text(said.get("sampler")),
        model=text(said.get("model")),
        width=whole(width),
        height=whole(height),
    )


def comfyui(texts: Texts) -> Recipe | None:
    """In PNG a text of its own; in WebP two EXIF tags, as `prompt:{...}`."""
    for keyword in ("prompt", "Model", "Make", "ImageDescription"):
        said = texts.get(keyword, "")
        if keyword != "prompt":
            said = said.removeprefix("prompt:").removeprefix("Prompt:").lstrip()
        if (recipe := read_graph(_object(said))) is not None:
            return recipe
    return None


def automatic1111(texts: Texts) -> Recipe | None:
    for said in _parameters(texts):
        if (recipe := read_infotext(said)) is not None:
            return recipe
    return None


DIALECTS: tuple[Callable[[Texts], Recipe | None], ...] = (
    ours, swarmui, fooocus, invokeai, novelai, draw_things, comfyui, automatic1111
)  # fmt: skip
"""The most certain first: many programs write `parameters` beside their own text."""


def _parameters(texts: Texts) -> list[str]:
    """Where AUTOMATIC1111 and those who follow it write, in PNG, in JPEG and WebP, and in GIF's way."""
    return [texts[name] for name in ("parameters", "UserComment", "comment") if name in texts]


def _object(said: str | None) -> dict[str, Any]:
    """Empty: it is no JSON object."""
    if not said or said.lstrip()[:1] != "{":
        return {}
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
