"""BatchService: takes batches, and finds, cancels and repeats them for their owners.

Orders are read and checked in a thread, since 10,000 of them take a second. Knows nothing of routes, headers
or status codes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uuid_utils

from serve_app.api.batches.checked import CheckedOrders, Resolve, Reword, checked
from serve_app.api.batches.listing import BatchQuery
from serve_app.api.batches.reading import JSON, Bounds, ReadBatch, Said, read
from serve_app.api.batches.replies import (
    BatchEstimate,
    BatchList,
    BatchResponse,
    BatchRowReply,
    BatchRows,
    ReusedReply,
)
from serve_app.api.grants import CURRENT
from serve_app.api.problems import Refused
from serve_app.api.registry_client import RegistryClient
from serve_app.api.schemas import NO_SOURCES, GenerateRequest
from serve_app.api.sources import FIELDS, NESTED
from serve_app.api.submit import to_its_end
from serve_app.api.webhooks import Hooks
from serve_app.catalog.resolve import how_to_serve
from serve_app.config import Settings
from serve_app.errors import Gone, InvalidField, InvalidParameter, InvalidRows, NotFound, RowError
from serve_app.messages import (
    Again,
    BatchReply,
    BatchRetry,
    BatchRow,
    BatchRowView,
    BatchSubmission,
    BatchView,
    JobView,
    Tombstone,
    Webhook,
)
from serve_app.params import GenerationParams, SourceUse, summary_of

READ_AT_ONCE = 2  # bodies that are checked
ROWS_AT_ONCE = 200  # of a batch, in one answer of the registry


@dataclass(frozen=True)
class BatchService:
    """`sources(order, owner, keep=)`: what the pictures are that an order names; to `keep` them, where it is
    ordered. `sources_again(params)`: those of a job that is ordered once more, kept for the new job.
    `served`: names of the models that render. `revision_of`: model name -> hash of its weights."""

    settings: Settings
    registry: RegistryClient
    resolve: Resolve
    reword: Reword
    sources: Callable[..., Coroutine[Any, Any, dict[str, SourceUse]]]
    sources_again: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
    served: Sequence[str]
    revision_of: Callable[[str], str]
    hooks: Hooks
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READ_AT_ONCE))

    # ---- ordering ----

    async def order(
        self,
        data: bytes,
        media_type: str,
        said: Said,
        *,
        owner: str,
        client: str,
        life_s: float | None,
        key: str | None,
    ) -> tuple[BatchView, bool] | BatchEstimate:
        """The batch, and whether `key` had made it before; of a dry run, what it would be. Raises BadRequest,
        InvalidField, InvalidRows, Refused."""
        body_hash = _hash_of(data, media_type, said)
        # Before anything is resolved: a style or a picture that it names may be gone by now.
        if key is not None and not said.dry_run:
            known = await self.registry.known_batch(owner, key, body_hash)
            if known is not None:
                return _batch_of(known), True
        batch_id = str(uuid_utils.uuid7())
        sources = self._sources_for(owner, asyncio.get_running_loop())

        def work() -> tuple[ReadBatch, CheckedOrders]:
            found = read(data, media_type, said, self.bounds)
            return found, checked(
                found.orders,
                found.defaults,
                self.resolve,
                self.reword,
                client=client,
                batch_id=batch_id,
                sources=partial(sources, keep=not found.dry_run),
                hook_of=partial(self._hook, owner),
                where=found.where,
                pointer=found.pointer,
            )

        async with self.reading:
            found, orders = await asyncio.to_thread(work)
        hook = self._hook_of_batch(owner, found, media_type)
        if found.dry_run:
            return await self._estimate(found, orders, owner)
        submission = BatchSubmission(
            batch_id=batch_id,
            owner=owner,
            name=found.name or "",
            rows=orders.rows,
            reuse=found.reuse,
            deadline=time.time() + self.settings.submit_timeout_s,
            idempotency_key=key,
            body_hash=body_hash,
            cancel_after_s=life_s,
            webhook=hook,
            quota=CURRENT.get().quota,
        )
        reply = await to_its_end(
            self.registry.submit_batch(submission), self.settings.submit_timeout_s
        )
        return _batch_of(reply), reply.get("replayed", False)

    def _hook_of_batch(self, owner: str, found: ReadBatch, media_type: str) -> Webhook | None:
        try:
            return self.hooks.of_batch(owner, found.webhook, found.webhook_events_filter)
        except InvalidField as error:
            if media_type == JSON:
                raise
            detail = error.detail.removeprefix(f"{error.field}: ")
            raise InvalidParameter(error.field, detail, error.allowed) from error

    def _hook(self, owner: str, body: GenerateRequest) -> Webhook | None:
        """Only of an order that names one: the owner's own webhook is not called for each row."""
        if body.webhook is None and body.webhook_events_filter is None:
            return None
        return self.hooks.of(owner, body.webhook, body.webhook_events_filter)

    def _sources_for(self, owner: str, loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
        """A function for the thread that checks: what the pictures are that an order names. Each is asked for
        once, in this loop."""
        known: dict[str, Mapping[str, SourceUse]] = {}

        def sources(body: GenerateRequest, *, keep: bool) -> Mapping[str, SourceUse]:
            pictures = body.pictures()
            if not pictures:
                return NO_SOURCES
            named = json.dumps({f: source.model_dump() for f, source in pictures.items()})
            if named not in known:
                asked = asyncio.run_coroutine_threadsafe(self.sources(body, owner, keep=keep), loop)
                known[named] = asked.result()
            return known[named]

        return sources

    @property
    def bounds(self) -> Bounds:
        """More orders than may wait could never be accepted."""
        settings = self.settings
        orders = min(settings.max_batch_orders, settings.max_pending)
        return Bounds(orders, settings.max_body_bytes, settings.max_prompt_chars)

    async def _estimate(self, found: ReadBatch, orders: CheckedOrders, owner: str) -> BatchEstimate:
        keys = [row["key"] for row in orders.rows]
        name = found.name if found.name is not None and found.reuse else ""
        plan = await self.registry.plan_batch(owner, name, keys, orders.loads)
        reused = sum(last - first + 1 for first, last in plan["reused_rows"])
        to_make = len(keys) - reused
        asked = [await self.registry.readiness(model) for model in orders.loads]
        reason = next(filter(None, asked), None)
        if reason is None and to_make > plan["room"]:
            reason = f"it makes {to_make} jobs, and {plan['room']} more of yours may wait now"
        seconds = plan["seconds"]
        return BatchEstimate(
            size=len(keys),
            images=orders.images,
            reused=ReusedReply(count=reused, rows=[[*run] for run in plan["reused_rows"]]),
            to_make=to_make,
            estimated_seconds=None if seconds is None or reason else round(seconds, 2),
            possible=reason is None,
            reason=reason,
        )

    async def again(self, batch_id: str, owner: str) -> BatchView:
        """The batch, where each order that ended without pictures is a new job: the same order, drawn with
        the current weights. Raises NotFound, Gone, Refused, InvalidParameter, InvalidRows."""
        await self.batch(batch_id, owner)
        pinned: dict[str, Mapping[str, Any]] = {}
        rows = [
            Again(
                row=row["row"],
                instead_of=row["job"]["job_id"],
                order=await self._repeated(row, batch_id, pinned),
            )
            async for row in self.rows(batch_id, owner, lost=True)
            if row["job"] is not None
        ]
        if not rows:
            return await self.batch(batch_id, owner)
        deadline = time.time() + self.settings.submit_timeout_s
        retry = BatchRetry(
            batch_id=batch_id,
            owner=owner,
            rows=rows,
            deadline=deadline,
            quota=CURRENT.get().quota,
        )
        return _batch_of(
            await to_its_end(self.registry.retry_batch(retry), self.settings.submit_timeout_s)
        )

    async def _repeated(
        self, row: BatchRowView, batch_id: str, pinned: dict[str, Mapping[str, Any]]
    ) -> BatchRow:
        """`pinned`: pictures that were kept for the new jobs already, by what the orders say of them."""
        job: JobView | None = row["job"]
        assert job is not None
        model = job["params"]["model"]
        if model not in self.served:
            why = f"the model of row {row['row']} is not being served. "
            why += how_to_serve(model)
            raise InvalidParameter("model", why, list(self.served))
        params: dict[str, Any] = job["params"] | {"model_revision": self.revision_of(model)}
        named = json.dumps([params.get(field) for field in (*FIELDS, *NESTED)])
        if named not in pinned:
            try:
                pinned[named] = await self.sources_again(params)
            except InvalidField as error:
                detail = error.detail.removeprefix(f"{error.field}: ")
                raise InvalidRows([RowError(row["row"], error.field, detail)], 1) from error
        params |= pinned[named]
        return BatchRow(
            job_id=str(uuid_utils.uuid7()),
            key=row["key"],
            name=row["name"],
            params=json.dumps(params),
            # Not validated: newer code may have accepted this order, and it goes back as it came.
            summary=summary_of(GenerationParams.model_construct(None, **params)),
            labels={**job["labels"], "retry_of": job["job_id"], "batch_id": batch_id},
        )

    # ---- looking ----

    async def batch(self, batch_id: str, owner: str) -> BatchView:
        """Raises NotFound, also for the batch of another owner; Gone."""
        return _owned(await self.registry.batch(_checked(batch_id), owner))

    async def page(self, query: BatchQuery, owner: str, root: str) -> BatchList:
        """`root`: prefix of every link."""
        before, after = query.bounds(owner)
        page = await self.registry.batches(owner, query.filter(), query.limit, before, after)
        return BatchList(
            next=query.path(owner, "before", page["older"], root),
            previous=query.path(owner, "after", page["newer"], root),
            results=[BatchResponse.of(batch, root) for batch in page["batches"]],
        )

    async def page_of_rows(
        self, batch_id: str, owner: str, after: int, limit: int, root: str
    ) -> BatchRows:
        """`root`: prefix of every link. Raises NotFound, Gone."""
        await self.batch(batch_id, owner)
        found = await self.registry.batch_rows(batch_id, owner, after, limit + 1)
        path = f"{root}/v1/batches/{batch_id}/rows?after={after + limit}&limit={limit}"
        more = len(found) > limit
        return BatchRows(
            next=path if more else None, results=[BatchRowReply.of(row) for row in found[:limit]]
        )

    async def rows(
        self, batch_id: str, owner: str, *, lost: bool = False
    ) -> AsyncGenerator[BatchRowView]:
        """Every row, in their order, asked for as they are needed. `lost`: those that ended without
        pictures."""
        after = 0
        while found := await self.registry.batch_rows(
            batch_id, owner, after, ROWS_AT_ONCE, lost=lost
        ):
            for row in found:
                yield row
            after = found[-1]["row"]

    # ---- ending ----

    async def cancel(self, batch_id: str, owner: str) -> BatchView:
        """Every job of it has ended when this returns. Raises NotFound, Gone."""
        return _owned(await self.registry.cancel_batch(_checked(batch_id), owner))


def _hash_of(data: bytes, media_type: str, said: Said) -> str:
    """Of all that is ordered: a key that comes again with something else is refused."""
    words: list[Any] = ["batch", media_type, said.name, said.reuse]
    if said.webhook is not None or said.webhook_events_filter is not None:
        words += [said.webhook, said.webhook_events_filter]
    return hashlib.sha256(json.dumps(words).encode() + data).hexdigest()


def _batch_of(reply: BatchReply) -> BatchView:
    if "batch" not in reply:
        assert "error" in reply
        raise Refused(reply["error"], reply.get("retry_after"))
    return reply["batch"]


def _checked(batch_id: str) -> str:
    try:
        if str(uuid.UUID(batch_id)) == batch_id:
            return batch_id
    except ValueError:
        pass
    raise NotFound("A batch id is a UUID in lower case.")


def _owned(found: BatchView | Tombstone | None) -> BatchView:
    if found is None:
        raise NotFound("There is no batch of this id.")
    if "gone" in found:
        raise Gone("Every job of this batch is deleted, or its time is over.", code=found["gone"])
    return found
