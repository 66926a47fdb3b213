"""Routes of batches: order many at once, list, watch, cancel, repeat, and fetch everything.

Knows nothing of how orders are read, checked or stored.
"""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from serve_app.api.batches.archive import archive
from serve_app.api.batches.listing import BatchQuery
from serve_app.api.batches.orders import BatchHookEvent
from serve_app.api.batches.reading import CSV, JSON, LINES, Said
from serve_app.api.batches.replies import (
    BATCH_ID,
    BatchEstimate,
    BatchList,
    BatchResponse,
    BatchRows,
    is_final,
)
from serve_app.api.batches.service import BatchService
from serve_app.api.headers import last_revision, life_seconds, names_revision, wait_seconds
from serve_app.api.once import query_once
from serve_app.api.openapi import (
    BATCH_ESTIMATE,
    BATCH_EVENTS,
    BATCH_HEADERS,
    NEW_BATCH_HEADERS,
    NOT_MODIFIED,
    TOLD,
    ZIP,
    problems,
)
from serve_app.api.routes.inputs import Client, IdempotencyKey, Owner, Prefer, Root, Service
from serve_app.api.shapes import Tag
from serve_app.api.streams.batches import BatchWatching
from serve_app.delivery.names import safe_name
from serve_app.delivery.naming import DEFAULT, FIELDS, MAX_TEMPLATE, NameTemplate
from serve_app.errors import InvalidParameter, NotFinal
from serve_app.hook_events import BATCH_HOOK_EVENTS
from serve_app.messages import BatchView

log = logging.getLogger("assets.api")
PATH = "/v1/batches"
MOST_ROWS = 500  # on a page
POLL_S = (1, 15)  # shortest and longest Retry-After of a batch that is not final
router = APIRouter(tags=["batches"])


async def batches_of(request: Request) -> BatchService:
    return request.app.state.batches


async def watching_of(request: Request) -> BatchWatching:
    return request.app.state.batch_watching


Batches = Annotated[BatchService, Depends(batches_of)]
Watching = Annotated[BatchWatching, Depends(watching_of)]
BatchId = Annotated[str, Path(description="From POST /v1/batches.", examples=[BATCH_ID])]

_CSV = "prompt,seed,tags\na red potion,7,level-3\na blue potion,,level-3\n"
_LINES = '{"prompt": "a red potion", "seed": 7}\n{"prompt": "a blue potion"}\n'
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        JSON: {"schema": {"$ref": "#/components/schemas/BatchRequest"}},
        CSV: {
            "schema": {
                "type": "string",
                "description": "UTF-8. The first line names fields of an order; commas, semicolons or tabs "
                "divide. An empty cell is a field that is left out.",
            },
            "example": _CSV,
        },
    }
    | {
        lines: {
            "schema": {"type": "string", "description": "An order in each line, as JSON."},
            "example": _LINES,
        }
        for lines in LINES
    },
}


@router.post(
    PATH,
    operation_id="order_batch",
    summary="Order many at once",
    status_code=202,
    response_model=BatchResponse,
    response_description="Accepted, whole: every job is on disk.",
    dependencies=[Depends(query_once)],
    responses=NEW_BATCH_HEADERS
    | BATCH_ESTIMATE
    | problems(400, 401, 408, 410, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": _BODY},
)
async def order(
    request: Request,
    batches: Batches,
    watching: Watching,
    owner: Owner,
    client: Client,
    root: Root,
    name: Annotated[
        Tag | None, Query(description="Of a CSV or of JSON lines.", examples=["potions"])
    ] = None,
    reuse: Annotated[bool | None, Query(description="As in a JSON body.", examples=[True])] = None,
    dry_run: Annotated[
        bool | None, Query(description="As in a JSON body.", examples=[False])
    ] = None,
    webhook: Annotated[
        str | None,
        Query(max_length=10_000, description="As in a JSON body.", examples=[None]),
    ] = None,
    webhook_events_filter: Annotated[
        list[BatchHookEvent] | None,
        Query(
            min_length=1,
            max_length=len(BATCH_HOOK_EVENTS),
            description="As in a JSON body; said once for each event.",
            examples=[["queued", "completed"]],
        ),
    ] = None,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    cancel_after: Annotated[
        str | None,
        Header(
            description="Revoke what is not done by then: seconds, or like `90s`, `1h30m`.",
            examples=["2h"],
        ),
    ] = None,
) -> Response:
    """All of it is accepted, or nothing. A 422 names each wrong order: its `row` (1 is the first) and
    its field. The same file under the same name makes only what is missing or changed."""
    said = [field.name for field in fields(Said)]
    for unknown in request.query_params.keys() - set(said):
        raise InvalidParameter(unknown[:60], "There is no such parameter.", said)
    wait, life = wait_seconds(prefer), life_seconds(cancel_after)
    media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    found = await batches.order(
        await request.body(),
        media_type,
        Said(
            name=name,
            reuse=reuse,
            dry_run=dry_run,
            webhook=webhook,
            webhook_events_filter=webhook_events_filter,
        ),
        owner=owner,
        client=client,
        life_s=life,
        key=idempotency_key,
    )
    if isinstance(found, BatchEstimate):
        return Response(found.model_dump_json(), 200, media_type=JSON)
    batch, replayed = found
    log.info("batch of %d accepted", batch["size"])
    batch, waited = await _held(watching, batch, wait, client)
    answer = _whole(batch, root, 200 if waited is not None and is_final(batch) else 202)
    answer.headers["Location"] = f"{root}{PATH}/{batch['batch_id']}"
    if replayed:
        answer.headers["Idempotency-Replayed"] = "true"
    return _with_wait(answer, waited)


@router.get(
    PATH,
    operation_id="list_batches",
    summary="List your batches",
    response_description="A page, newest first.",
    dependencies=[Depends(query_once)],
    responses=problems(400, 401, 422, 503),
)
async def batches(
    query: Annotated[BatchQuery, Query()], batches: Batches, owner: Owner, root: Root
) -> BatchList:
    """As with jobs: follow `next`."""
    return await batches.page(query, owner, root)


@router.get(
    PATH + "/{batch_id}",
    operation_id="get_batch",
    summary="See how a batch is",
    response_model=BatchResponse,
    response_description="The roll-up, as it is now.",
    responses=BATCH_HEADERS | NOT_MODIFIED | problems(400, 401, 404, 410, 503),
)
async def batch(
    batch_id: BatchId,
    batches: Batches,
    watching: Watching,
    owner: Owner,
    client: Client,
    root: Root,
    if_none_match: Annotated[
        str | None, Header(description="The last `ETag`.", examples=['W/"1764172800000000.117"'])
    ] = None,
    prefer: Prefer = None,
) -> Response:
    """Costs the same however many orders it has. Poll no sooner than `Retry-After` says."""
    wait = wait_seconds(prefer)
    found, waited = await _held(watching, await batches.batch(batch_id, owner), wait, client)
    if if_none_match and names_revision(if_none_match, found["rev"]):
        return _with_wait(Response(status_code=304, headers=_headers(found)), waited)
    return _with_wait(_whole(found, root, 200), waited)


@router.get(
    PATH + "/{batch_id}/rows",
    operation_id="list_rows",
    summary="List what stands for the orders of a batch",
    response_description="A page, in the order of the orders.",
    dependencies=[Depends(query_once)],
    responses=problems(400, 401, 404, 410, 422, 503),
)
async def rows(
    batch_id: BatchId,
    batches: Batches,
    owner: Owner,
    root: Root,
    after: Annotated[
        int, Query(ge=0, le=2**31, description="Rows after this one.", examples=[200])
    ] = 0,
    limit: Annotated[
        int, Query(ge=1, le=MOST_ROWS, description="Most of them.", examples=[200])
    ] = 200,
) -> BatchRows:
    """Follow `next` until it is null."""
    return await batches.page_of_rows(batch_id, owner, after, limit, root)


@router.post(
    PATH + "/{batch_id}/cancel",
    operation_id="cancel_batch",
    summary="Cancel a batch",
    response_model=BatchResponse,
    response_description="The batch, which has ended.",
    responses=BATCH_HEADERS | problems(400, 401, 404, 410, 503),
)
async def cancel(batch_id: BatchId, batches: Batches, owner: Owner, root: Root) -> Response:
    """Cancels every job of it that lives, unless another batch stands for that job too. What is drawn
    stays."""
    return _whole(await batches.cancel(batch_id, owner), root, 200)


@router.post(
    PATH + "/{batch_id}/retry",
    operation_id="retry_batch",
    summary="Order again what has no pictures",
    status_code=202,
    response_model=BatchResponse,
    response_description="The batch; a new job stands for each order that had failed or was revoked.",
    responses=BATCH_HEADERS | problems(400, 401, 404, 410, 422, 429, 503),
)
async def retry(batch_id: BatchId, batches: Batches, owner: Owner, root: Root) -> Response:
    """May be repeated: what was ordered again is not ordered again. A job that was left to another batch, and
    lives or has pictures, stands for its order again."""
    return _whole(await batches.again(batch_id, owner), root, 202)


@router.get(
    PATH + "/{batch_id}/events",
    operation_id="watch_batch",
    summary="Watch a batch",
    response_class=Response,
    responses=BATCH_EVENTS | TOLD | problems(400, 401, 404, 410, 429, 503),
)
async def events(
    batch_id: BatchId,
    batches: Batches,
    watching: Watching,
    owner: Owner,
    client: Client,
    root: Root,
    last_event_id: Annotated[
        str | None,
        Header(description="The last `id` that was read.", examples=["1764172800000000.117"]),
    ] = None,
) -> Response:
    """Begins with the batch as it is now, and ends when it is final. A client that asks again after the end
    gets 204."""
    found = await batches.batch(batch_id, owner)
    if is_final(found) and last_revision(last_event_id) == last_revision(found["rev"]):
        return Response(status_code=204)
    return watching.stream(found, client, root)


@router.get(
    PATH + "/{batch_id}/archive",
    operation_id="fetch_archive",
    summary="Fetch all files of a batch",
    response_class=Response,
    dependencies=[Depends(query_once)],
    responses=ZIP | problems(400, 401, 404, 409, 410, 422, 429, 503),
)
async def fetch_archive(
    batch_id: BatchId,
    batches: Batches,
    watching: Watching,
    service: Service,
    owner: Owner,
    client: Client,
    names: Annotated[
        str,
        Query(
            max_length=MAX_TEMPLATE,
            description="Of the files: `{row}`, `{name}`, `{prompt}`, `{style}`, `{seed}`, `{index}`, "
            "`{job}`, `{model}`; `{row:4}` has four digits; `/` makes folders.",
            examples=["{style}/{row:4}_{name}"],
        ),
    ] = DEFAULT,
    partial: Annotated[
        bool,
        Query(description="Also while it is not final: what there is by now.", examples=[True]),
    ] = False,
    originals: Annotated[
        bool,
        Query(description="Also the pictures before their effects.", examples=[False]),
    ] = False,
) -> Response:
    """Sent while it is made. `manifest.csv` and `manifest.json` at its end name the file of every order, or
    why it has none."""
    try:
        template = NameTemplate(names)
    except ValueError as error:
        allowed = [f"{{{field}}}" for field in FIELDS]
        raise InvalidParameter("names", str(error), allowed) from error
    found = await batches.batch(batch_id, owner)
    if not is_final(found) and not partial:
        live = sum(found["counts"][status] for status in ("PENDING", "STARTED", "RETRY"))
        raise NotFinal(
            f"{live} of its {found['size']} orders are not done; `partial=true` takes the rest."
        )
    rows = batches.rows(batch_id, owner)
    content = archive(found, rows, service.files, template, originals=originals)
    file = f"{safe_name(found['name'] or batch_id)}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{file}"', "Cache-Control": "private"}
    return watching.seated(StreamingResponse(content, 200, headers, "application/zip"), client)


async def _held(
    watching: BatchWatching, batch: BatchView, wait: int | None, client: str
) -> tuple[BatchView, int | None]:
    """The batch when it is final or the wait is over, and the wait if it was granted."""
    if wait is None:
        return batch, None
    batch, granted = await watching.until_final(batch, wait, client)
    return batch, wait if granted else None


def _whole(batch: BatchView, root: str, status: int) -> Response:
    text = BatchResponse.of(batch, root).model_dump_json()
    return Response(text, status, _headers(batch), JSON)


def _headers(batch: BatchView) -> dict[str, str]:
    headers = {"ETag": f'W/"{batch["rev"]}"', "Cache-Control": "private, no-cache"}
    if not is_final(batch):
        shortest, longest = POLL_S
        eta = batch["eta_seconds"] or 0
        headers["Retry-After"] = str(max(shortest, min(longest, round(eta / 4))))
    return headers


def _with_wait(response: Response, waited: int | None) -> Response:
    if waited is not None:
        response.headers["Preference-Applied"] = f"wait={waited}"
    return response
