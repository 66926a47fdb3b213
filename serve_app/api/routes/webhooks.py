"""Routes of webhooks: what was delivered and what was not, once more, and a test.

Knows nothing of how a receiver is called.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from serve_app.api.once import query_once
from serve_app.api.openapi import problems
from serve_app.api.routes.inputs import Owner, Root, Service
from serve_app.api.webhooks import (
    DELIVERY_ID,
    DeliveryList,
    DeliveryQuery,
    DeliveryReply,
    WebhookTest,
)

router = APIRouter(tags=["webhooks"])


@router.get(
    "/v1/webhooks/deliveries",
    operation_id="list_deliveries",
    summary="List what your webhooks were told",
    response_description="A page, newest first.",
    dependencies=[Depends(query_once)],
    responses=problems(400, 401, 422, 503),
)
async def deliveries(
    query: Annotated[DeliveryQuery, Query()], service: Service, owner: Owner, root: Root
) -> DeliveryList:
    """Every event that a webhook was to be told, with each call and what came of it. What is over stays for
    30 days."""
    return await service.deliveries(query, owner, root)


@router.post(
    "/v1/webhooks/deliveries/{delivery_id}/redeliver",
    operation_id="redeliver_event",
    summary="Tell a webhook once more",
    status_code=202,
    response_description="It will be called at once.",
    responses=problems(400, 401, 404, 503),
)
async def redeliver(
    delivery_id: Annotated[
        str, Path(description="From GET /v1/webhooks/deliveries.", examples=[DELIVERY_ID])
    ],
    service: Service,
    owner: Owner,
    root: Root,
) -> DeliveryReply:
    """Whatever came of it before, with the same id and the same body. A URL that was disabled is called
    again from now on."""
    return await service.redeliver(delivery_id, owner, root)


@router.post(
    "/v1/webhooks/test",
    operation_id="test_webhook",
    summary="Try a webhook",
    status_code=202,
    response_description="The call that will be made, once.",
    responses=problems(400, 401, 408, 413, 415, 422, 503),
)
async def test(body: WebhookTest, service: Service, owner: Owner, root: Root) -> DeliveryReply:
    """Sends an event of the type `test`; GET /v1/webhooks/deliveries tells what came of it."""
    return await service.test_webhook(body.url, owner, root)
