"""Watching: the event streams of one ingress process, and answers that are held until a job ends.

Knows the local view and the registry; who may see a job is the service's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

from sse_starlette import EventSourceResponse, ServerSentEvent

from serve_app.api.registry_client import RegistryClient
from serve_app.api.streams.seats import SeatedResponse, Seats
from serve_app.api.streams.stream import Stream
from serve_app.api.view import TERMINAL, LocalView
from serve_app.errors import Unavailable
from serve_app.messages import JobView

PACE_S = 0.25  # the shortest time between two looks at what changed
REFRESH_S = 1.0  # a waiting job's place is asked again so often; less often when many streams ask
LONGEST_S = 600.0  # a stream ends then; whoever still reads connects again
MOST_BYTES = 4 * 2**20
"""A stream ends after so much, too. Serve takes whatever is sent at once and keeps it for its reader, so
one who never reads would not be noticed, and would cost memory without end."""
ASKED_AT_ONCE = 32  # jobs whose end was not heard


class Watching:
    """Streams of one ingress process."""

    def __init__(self, view: LocalView, registry: RegistryClient, seats: int) -> None:
        self._view, self._registry = view, registry
        self._seats = Seats(seats)

    async def until_final(self, job: JobView, seconds: int) -> tuple[JobView, bool]:
        """The job when it is final or the time is over, and whether it was waited for at all: while
        too many requests are held, this one is answered at once."""
        if job["status"] in TERMINAL or not self._seats.free:
            return job, job["status"] in TERMINAL
        job_id = job["job_id"]
        changed = asyncio.Event()
        changed.set()  # whatever was heard before this moment was not heard here

        def hear(said: JobView | None) -> None:
            if said is None or (said["job_id"] == job_id and said["status"] in TERMINAL):
                changed.set()

        stop = self._view.subscribe(hear)
        try:
            with self._seats.taking(), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while job["status"] not in TERMINAL:
                        await changed.wait()
                        changed.clear()
                        with contextlib.suppress(Unavailable):  # the order stands all the same
                            if (latest := await self._latest(job_id)) is None:
                                break  # deleted
                            job = latest
        finally:
            stop()
        return self._view.get(job_id) or job, True

    def of_job(self, job: JobView, *, preview: bool) -> EventSourceResponse:
        """Ends when the job has."""

        def wants(changed: JobView) -> bool:
            return changed["job_id"] == job["job_id"]

        def first() -> list[JobView]:
            return [job, self._view.get(job["job_id"]) or job]

        async def refresh() -> bool:
            """A job that waits moves up without changing."""
            stream.unsure = False
            if (latest := await self._latest(job["job_id"])) is None:
                return False
            stream.hear(latest)
            return True

        stream = Stream(self._view, wants, preview, self._registry.send_previews)
        return self._respond(stream, first, refresh, lambda: stream.ended)

    async def of_owner(
        self,
        owner: str,
        live: Callable[[], Awaitable[list[JobView]]],
        missed: Callable[[], Awaitable[list[JobView]]],
        *,
        preview: bool,
    ) -> EventSourceResponse:
        """`live` finds the jobs to begin with, `missed` those that changed since the reader left. Raises
        TooManyStreams before it asks for either."""
        self._seats.must_be_free()

        def wants(changed: JobView) -> bool:
            return changed["owner"] == owner

        def first() -> list[JobView]:
            begun = [*known, *self._view.after(seen)]
            known.clear()  # or a stream would hold them to its end
            return begun

        async def refresh() -> bool:
            """Only where changes may have been missed: an end that was not heard is asked for."""
            if stream.unsure:
                stream.unsure = False
                found = await live()
                left = list(stream.live.difference(job["job_id"] for job in found))
                for start in range(0, len(left), ASKED_AT_ONCE):
                    some = left[start : start + ASKED_AT_ONCE]
                    for job_id, job in zip(
                        some, await asyncio.gather(*map(self._latest, some)), strict=True
                    ):
                        if job is None:
                            stream.forget(job_id)
                        else:
                            found.append(job)
                for job in found:
                    stream.hear(job)
            return True

        stream = Stream(self._view, wants, preview, self._registry.send_previews)
        seen = self._view.cursor  # what the view hears from here on must not fall between
        known = [*await live(), *await missed()]
        return self._respond(stream, first, refresh, lambda: False)

    def _respond(
        self,
        stream: Stream,
        first: Callable[[], Iterable[JobView]],
        refresh: Callable[[], Awaitable[bool]],
        ended: Callable[[], bool],
    ) -> EventSourceResponse:
        return SeatedResponse(self._events(stream, first, refresh, ended), self._seats)

    async def _events(
        self,
        stream: Stream,
        first: Callable[[], Iterable[JobView]],
        refresh: Callable[[], Awaitable[bool]],
        ended: Callable[[], bool],
    ) -> AsyncGenerator[ServerSentEvent]:
        """`refresh` asks for what no change tells; False: there is nothing more to tell."""
        ends = time.monotonic() + LONGEST_S
        successors, sent = self._view.successors, 0
        stop = self._view.subscribe(stream.hear)
        try:
            for job in first():
                stream.hear(job)
            while True:
                async for event in stream.changes():
                    sent += len(event.data or "")
                    yield event
                if ended():
                    return
                if time.monotonic() > ends or self._view.successors != successors:
                    return  # a newer replica serves whoever connects again
                if sent > MOST_BYTES:
                    return  # whoever reads connects again
                heard = await stream.heard(max(REFRESH_S, self._seats.taken / 50))
                if stream.unsure or not heard:
                    try:
                        if not await refresh():
                            return
                    except Unavailable:
                        stream.unsure = True
                await asyncio.sleep(PACE_S)
        finally:
            stop()

    async def _latest(self, job_id: str) -> JobView | None:
        """The job, at most a second old; None: it is deleted. Raises Unavailable."""
        job = self._view.get(job_id)
        if job is not None and self._view.good_enough(job):
            return job
        asked = await self._registry.get(job_id)
        return None if asked is None or "gone" in asked else self._view.remember(asked)
