"""Route of what a key may do, and of what is used of it.

Knows grants and the registry's figures; nothing of how they came about.
"""

from __future__ import annotations

from fastapi import APIRouter

from serve_app.api.grants import CURRENT
from serve_app.api.openapi import problems
from serve_app.api.quota import QuotaReply
from serve_app.api.routes.inputs import Owner, Service

router = APIRouter(prefix="/v1", tags=["quota"])


@router.get(
    "/quota",
    operation_id="get_quota",
    summary="What your key may do, and what you use",
    response_description="Scopes, rate, and each quota beside what is used of it.",
    responses=problems(400, 401, 503),
)
async def quota(service: Service, owner: Owner) -> QuotaReply:
    """Of the key that asks. What is used counts for the owner, with whichever key it was ordered."""
    return QuotaReply.of(owner, CURRENT.get(), await service.registry.usage(owner))
