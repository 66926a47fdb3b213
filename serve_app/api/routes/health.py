"""Routes of the probes: does the process answer, and would a job be served.

Knows nothing of jobs.
"""

from __future__ import annotations

from fastapi import APIRouter

from serve_app.api.openapi import problems
from serve_app.api.replies import Health
from serve_app.api.routes.inputs import Service
from serve_app.errors import Unavailable

router = APIRouter(tags=["health"])


@router.get(
    "/healthz",
    operation_id="check_health",
    summary="Is the process alive",
    response_description="It answers.",
    responses=problems(400),
)
async def healthz() -> Health:
    """Says nothing of whether a job would be served: see /readyz."""
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="check_readiness",
    summary="Would a job be served",
    response_description="It would.",
    responses=problems(400, 503),
)
async def readyz(service: Service) -> Health:
    """503 with the reason while the registry or every renderer is away."""
    if reason := await service.registry.readiness():
        raise Unavailable(reason)
    return Health(status="ok")
