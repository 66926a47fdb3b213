"""Routes of what this server offers: styles, models, effects, palettes, limits and features.

`api/catalog.py` makes the answers when the app starts; only how the models are is asked for.
"""

from __future__ import annotations

from fastapi import APIRouter

from serve_app.api.catalog import (
    Capabilities,
    EffectList,
    LoraList,
    ModelList,
    PaletteList,
    StyleList,
)
from serve_app.api.openapi import problems
from serve_app.api.routes.inputs import Service

router = APIRouter(tags=["catalog"])


@router.get(
    "/v1/styles",
    operation_id="list_styles",
    summary="List the styles",
    response_description="Every style of this server.",
    responses=problems(400, 401),
)
async def styles(service: Service) -> StyleList:
    """What `style_id` of an order may name."""
    return service.catalog.styles


@router.get(
    "/v1/models",
    operation_id="list_models",
    summary="List the models",
    response_description="Every model this server knows.",
    responses=problems(400, 401),
)
async def models(service: Service) -> ModelList:
    """What `model` of an order may name, what each allows, and whether a renderer has it now."""
    return await service.models()


@router.get(
    "/v1/effects",
    operation_id="list_effects",
    summary="List the effects",
    response_description="Every effect of this server.",
    responses=problems(400, 401),
)
async def effects(service: Service) -> EffectList:
    """What `effects` of an order may hold: a sentence, an example and the JSON Schema of each."""
    return service.catalog.effects


@router.get(
    "/v1/palettes",
    operation_id="list_palettes",
    summary="List the palettes",
    response_description="Every palette of this server.",
    responses=problems(400, 401),
)
async def palettes(service: Service) -> PaletteList:
    """What `name` of the effect `palette` may name."""
    return service.catalog.palettes


@router.get(
    "/v1/loras",
    operation_id="list_loras",
    summary="List the LoRAs",
    response_description="Every LoRA of this server.",
    responses=problems(400, 401),
)
async def loras(service: Service) -> LoraList:
    """What `loras` of an order may name, and the words each was trained with."""
    return service.catalog.loras


@router.get(
    "/v1/capabilities",
    operation_id="get_capabilities",
    summary="See limits and features",
    response_description="What this server can do.",
    responses=problems(400, 401),
)
async def capabilities(service: Service) -> Capabilities:
    """Limits of one order, and which features this version has."""
    return service.catalog.capabilities
