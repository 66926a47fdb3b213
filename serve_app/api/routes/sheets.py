"""Route of sheets: pictures of finished jobs, packed for engines.

Knows nothing of how pictures are found, packed or stored.
"""

from __future__ import annotations

import logging

from fastapi import APIRouter, Response

from serve_app.api.headers import life_seconds, wait_seconds
from serve_app.api.openapi import FINAL, SUBMIT_HEADERS, problems
from serve_app.api.replies import JobStatusResponse
from serve_app.api.routes.answers import accepted
from serve_app.api.routes.inputs import (
    CancelAfter,
    Client,
    IdempotencyKey,
    Owner,
    Prefer,
    Root,
    Service,
)
from serve_app.api.routes.jobs import held
from serve_app.api.sheets import SheetRequest

log = logging.getLogger("assets.api")
PATH = "/v1/sheets"
router = APIRouter(tags=["jobs"])


@router.post(
    PATH,
    operation_id="order_sheet",
    summary="Pack pictures into a sheet",
    status_code=202,
    response_model=JobStatusResponse,
    response_description="Accepted: a job of kind `sheet`, which is on disk.",
    responses=SUBMIT_HEADERS | FINAL | problems(400, 401, 408, 413, 415, 422, 429, 503),
)
async def sheet(
    body: SheetRequest,
    service: Service,
    owner: Owner,
    client: Client,
    root: Root,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """Image i of the job is page i. The first page's `files` hold the ZIP with everything (`archive`), its
    `manifest`, and those formats that are JSON."""
    wait, life = wait_seconds(prefer), life_seconds(cancel_after)
    job, replayed = await service.sheet(
        body, owner=owner, client=client, life_s=life, key=idempotency_key
    )
    log.info("sheet accepted", extra={"job_id": job["job_id"]})
    job, waited = await held(service, job, wait, client)
    return accepted(service.texts, job, root, replayed=replayed, waited=waited)
