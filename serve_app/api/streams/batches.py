"""BatchWatching: event streams of batches, and answers that are held until a batch is final.

A batch is looked at again when a job of its owner has changed: a look costs the same however many jobs it
has. Knows the local view and the registry; `api/batches/service.py` decides who may see a batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve_app.api.batches.replies import BatchResponse, is_final
from serve_app.api.registry_client import RegistryClient
from serve_app.api.streams.seats import SeatedResponse, Seats
from serve_app.api.view import LocalView
from serve_app.errors import Unavailable
from serve_app.messages import BatchView, JobView

PACE_S = 0.5  # least time between two looks
REFRESH_S = 5.0  # between two looks while nothing changes: the ETA does
LONGEST_S = 600.0  # life of a stream; a reader that is still there connects again


class BatchWatching:
    def __init__(self, view: LocalView, registry: RegistryClient, seats: Seats) -> None:
        self._view, self._registry, self.seats = view, registry, seats

    async def until_final(
        self, batch: BatchView, seconds: int, client: str
    ) -> tuple[BatchView, bool]:
        """The batch when it is final or the time is over, and True. While no seat is free for the client, the
        batch at once, and False unless it is final."""
        if is_final(batch) or not self.seats.free_for(client):
            return batch, is_final(batch)
        with self.seats.taking(client), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for latest in self._states(batch):
                    batch = latest
        return batch, True

    def stream(self, batch: BatchView, client: str, root: str) -> EventSourceResponse:
        """`status` when the batch becomes PENDING, STARTED or final, `progress` in between; each is the whole
        roll-up. It ends with the batch. `client`: whose seat it takes."""

        async def events() -> AsyncGenerator[ServerSentEvent]:
            ends, before = time.monotonic() + LONGEST_S, ""
            async for latest in self._states(batch):
                status = latest["status"]
                kind = "progress" if status == before else "status"
                before = status
                data = BatchResponse.of(latest, root).model_dump_json()
                yield ServerSentEvent(data=data, event=kind, id=latest["rev"])
                if time.monotonic() > ends:
                    return

        return SeatedResponse(events(), self.seats, client)

    def seated(self, response: Response, client: str) -> Response:
        """The response, which takes a seat of this client while it is sent."""
        return _Seated(response, self.seats, client)

    async def _states(self, batch: BatchView) -> AsyncGenerator[BatchView]:
        """The batch now and whenever it has changed, until it is final or gone."""
        changed = asyncio.Event()
        changed.set()  # it may have changed before the subscription

        def notice(_: JobView | None) -> None:
            changed.set()

        stop = self._view.subscribers.of_owner(batch["owner"], notice)
        told = None
        try:
            yield batch
            while not is_final(batch):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFRESH_S):
                        await changed.wait()
                changed.clear()
                with contextlib.suppress(Unavailable):  # the batch was accepted: wait on
                    found = await self._registry.batch(batch["batch_id"], batch["owner"])
                    if found is None or "gone" in found:
                        return
                    batch = found
                    if (now := (batch["rev"], batch["eta_seconds"])) != told:
                        told = now
                        yield batch
                if not is_final(batch):
                    await asyncio.sleep(PACE_S)
        finally:
            stop()


class _Seated(Response):
    """The seat is taken when sending starts. Raises as `Seats.taking` does."""

    def __init__(self, response: Response, seats: Seats, client: str) -> None:
        self.status_code, self.background = response.status_code, None
        self.raw_headers = response.raw_headers
        self._response, self._seats, self._client = response, seats, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._seats.taking(self._client):
            await self._response(scope, receive, send)
