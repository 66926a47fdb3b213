"""What AUTOMATIC1111's web UI lists: models, samplers, styles, LoRAs, upscalers, options and memory.

Knows the web UI's names for what this server has; it asks nobody. What this server has none of is an empty
list, since clients fail at a 404.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from serve_app.api.catalog import Catalog
from serve_app.api.dialects.a1111_bodies import check_model, sampler_names
from serve_app.api.openapi import Responses
from serve_app.api.routes.inputs import Owner, Service
from serve_app.catalog.schedulers import SCHEDULERS
from serve_app.catalog.styles import NONE

ROOT = "/sdapi/v1"
ERRORS: Responses = {
    "default": {
        "description": "As the web UI words errors: `error`, `detail`, `body`, `errors`.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
router = APIRouter(prefix=ROOT, tags=["a1111"], responses=ERRORS)
EMPTY_LISTS = (
    *("sd-vae", "sd-modules", "hypernetworks", "face-restorers", "realesrgan-models"),
    "latent-upscale-modes",
)


def choose(catalog: Catalog, options: Mapping[str, Any]) -> None:
    """Raises InvalidField for a model that is not served."""
    check_model(options.get("sd_model_checkpoint"), catalog)


@router.get("/options", operation_id="list_options_for_a1111", summary="The model and its settings")
async def options(service: Service, owner: Owner) -> dict[str, Any]:
    """The few that clients read."""
    active = next(model for model in service.catalog.models.results if model.active)
    return {
        "sd_model_checkpoint": active.name,
        "sd_checkpoint_hash": active.revision,
        "sd_vae": "None",
        "samples_format": "png",
        "CLIP_stop_at_last_layers": active.clip_skip,
    }


@router.get("/sd-models", operation_id="list_models_for_a1111", summary="The models")
async def sd_models(service: Service, owner: Owner) -> list[dict[str, Any]]:
    """Only those that are served: every other would be refused."""
    return [
        {
            "title": model.name,
            "model_name": model.name,
            "hash": (model.revision or "")[:10] or None,
            "sha256": None,
            "filename": model.name,
            "config": None,
        }
        for model in service.catalog.models.results
        if model.served
    ]


@router.get("/samplers", operation_id="list_samplers_for_a1111", summary="Samplers of the model")
async def samplers(service: Service, owner: Owner) -> list[dict[str, Any]]:
    """As the web UI calls them; a schedule comes beside."""
    listed = service.catalog.capabilities.schedulers
    return [
        {
            "name": sampler,
            "aliases": [name for name in listed if SCHEDULERS[name].sampler == sampler],
            "options": {},
        }
        for sampler in sampler_names(listed)
    ]


@router.get("/schedulers", operation_id="list_schedules_for_a1111", summary="Schedules of noise")
async def schedulers(service: Service, owner: Owner) -> list[dict[str, Any]]:
    """Those that some sampler of the model has."""
    found = [SCHEDULERS[name].schedule for name in service.catalog.capabilities.schedulers]
    names = ["Automatic", *dict.fromkeys(filter(None, found))]
    return [
        {
            "name": name.lower().replace(" ", "_"),
            "label": name,
            "aliases": None,
            "default_rho": -1.0,
            "need_inner_model": False,
        }
        for name in names
    ]


@router.get("/prompt-styles", operation_id="list_styles_for_a1111", summary="Styles")
async def prompt_styles(service: Service, owner: Owner) -> list[dict[str, Any]]:
    """What `styles` of an order may name: one of them."""
    return [
        {"name": style.style_id, "prompt": style.description or style.title, "negative_prompt": ""}
        for style in service.catalog.styles.results
        if style.drawable and style.style_id != NONE.id
    ]


@router.get("/loras", operation_id="list_loras_for_a1111", summary="LoRAs")
async def loras(service: Service, owner: Owner) -> list[dict[str, Any]]:
    """What `<lora:name:weight>` in a prompt may name."""
    return [
        {"name": lora.name, "alias": lora.title, "path": lora.name, "metadata": {}}
        for lora in service.catalog.loras.results
    ]


@router.get("/upscalers", operation_id="list_upscalers_for_a1111", summary="Upscalers")
async def upscalers(owner: Owner) -> list[dict[str, Any]]:
    """Of extra-single-image."""
    return [
        {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4}
        for name in ("None", "Lanczos", "Nearest")
    ]


@router.get("/scripts", operation_id="list_scripts_for_a1111", summary="Scripts: none")
async def scripts(owner: Owner) -> dict[str, list[str]]:
    """Extensions of the web UI do not run here."""
    return {"txt2img": [], "img2img": []}


@router.get("/embeddings", operation_id="list_embeddings_for_a1111", summary="Embeddings")
async def embeddings(service: Service, owner: Owner) -> dict[str, dict[str, Any]]:
    """Textual inversions, of any family."""
    names = service.catalog.capabilities.embeddings
    nothing = {"step": None, "sd_checkpoint": None, "sd_checkpoint_name": None}
    return {"loaded": dict.fromkeys(names, nothing), "skipped": {}}


@router.get("/cmd-flags", operation_id="list_flags_for_a1111", summary="Flags: none")
async def cmd_flags(owner: Owner) -> dict[str, Any]:
    """The command line of this server is nobody's business."""
    return {}


@router.get("/memory", operation_id="memory_for_a1111", summary="Memory: not told")
async def memory(owner: Owner) -> dict[str, Any]:
    """An ingress knows nothing of the renderers' devices: zeros, so that clients go on."""
    none = {"free": 0, "used": 0, "total": 0}
    return {"ram": none, "cuda": {"system": none}}


@router.post("/refresh-checkpoints", operation_id="refresh_for_a1111", summary="Does nothing")
async def refresh_checkpoints(owner: Owner) -> None:
    """Models are chosen when the service starts."""


@router.post("/refresh-loras", operation_id="refresh_loras_for_a1111", summary="Does nothing")
async def refresh_loras(owner: Owner) -> None:
    """LoRAs are read when the service starts."""


async def _nothing(owner: Owner) -> list[dict[str, Any]]:
    """This server has none."""
    return []


for _name in EMPTY_LISTS:
    router.add_api_route(
        f"/{_name}",
        _nothing,
        methods=["GET"],
        operation_id=f"list_{_name.replace('-', '_')}_for_a1111",
        summary="None",
    )
