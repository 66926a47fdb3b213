"""Routes of what this server offers: styles, models, effects, palettes, limits and features.

`api/catalog.py` makes the answers when the app starts; only how the models are is asked for.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from serve_app.api.catalog import (
    Capabilities,
    EffectList,
    LoraList,
    ModelList,
    PaletteList,
    StyleList,
    ThingList,
)
from serve_app.api.once import query_once
from serve_app.api.openapi import problems
from serve_app.api.routes.inputs import Root, Service

router = APIRouter(tags=["catalog"])
MOST_THINGS = 1000


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
async def models(service: Service, root: Root) -> ModelList:
    """What `model` of an order may name, what each allows, and whether a renderer has it now."""
    return await service.models(root)


@router.get(
    "/v1/models/{model}/vocabulary",
    operation_id="list_vocabulary",
    summary="Search what a model was taught",
    response_description="A page of things, with all their names.",
    dependencies=[Depends(query_once)],
    responses=problems(400, 401, 404, 422),
)
async def vocabulary(
    service: Service,
    root: Root,
    model: Annotated[str, Path(description="One that is served.", examples=["starter"])],
    q: Annotated[
        str, Query(max_length=100, description="Part of a name.", examples=["sword"])
    ] = "",
    after: Annotated[
        int, Query(ge=0, le=2**31, description="Things after so many.", examples=[50])
    ] = 0,
    limit: Annotated[
        int, Query(ge=1, le=MOST_THINGS, description="Most of them.", examples=[50])
    ] = 50,
) -> ThingList:
    """Follow `next` until it is null. Prompts that name none of them are drawn by the nearest, or told of."""
    return service.catalog.things(model, q, after, limit, root)


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
