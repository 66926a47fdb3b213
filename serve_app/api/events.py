"""Event streams: what changes about jobs, told as it happens, and answers that are held until a job ends.

Knows the local view and the wire format; who may see a job is the board's to say. Each event is a full
snapshot, so a reader who missed some, or comes back, has lost nothing but time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
)
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from serve_app.api.ports import RegistryPort
from serve_app.api.replies import ImageReply, JobStatusResponse, ProgressEvent
from serve_app.api.view import TERMINAL, LocalView, rev_of
from serve_app.errors import TooManyStreams, Unavailable
from serve_app.messages import JobView

PACE_S = 0.25  # the shortest time between two looks at what changed
REFRESH_S = 1.0  # a waiting job's place is asked again so often; less often when many streams ask
LONGEST_S = 600.0  # a stream ends then; whoever still reads connects again
PING_S = 15
SEND_TIMEOUT_S = 30.0
MOST_BYTES = 4 * 2**20
"""A stream ends after so much, too. Serve takes whatever is sent at once and keeps it for its reader, so
one who never reads would not be noticed, and would cost memory without end."""
ASKED_AT_ONCE = 32  # jobs whose end was not heard

log = logging.getLogger("assets.api")


class Seats:
    """How many requests may stay open at a time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    @property
    def free(self) -> bool:
        return self.taken < self.limit

    def must_be_free(self) -> None:
        """Raises TooManyStreams."""
        if not self.free:
            raise TooManyStreams(f"{self.limit} streams are open already.")

    @contextlib.contextmanager
    def taking(self) -> Generator[None]:
        """Raises TooManyStreams."""
        self.must_be_free()
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class SeatedResponse(EventSourceResponse):
    """Has a seat while it is sent. Taken here, not when the route returns: in between others come."""

    def __init__(self, events: AsyncGenerator[ServerSentEvent], seats: Seats) -> None:
        super().__init__(events, ping=PING_S, send_timeout=SEND_TIMEOUT_S)
        self._seats = seats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._seats.taking():
            try:
                await super().__call__(scope, receive, send)
            except SendTimeoutError:
                log.info("a stream ends: nobody has read it for %g s", SEND_TIMEOUT_S)


class Watching:
    """Streams of one ingress process."""

    def __init__(self, view: LocalView, registry: RegistryPort, seats: int) -> None:
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

        stream = Stream(self._view, wants, preview, self._registry.show)
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

        stream = Stream(self._view, wants, preview, self._registry.show)
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


class Stream:
    """What one reader has been told, and what is new since. A job that changes faster than it is read is
    told of once: memory is bounded by the jobs that live."""

    def __init__(
        self,
        view: LocalView,
        wants: Callable[[JobView], bool],
        preview: bool,
        show: Callable[[str], Awaitable[None]],
    ) -> None:
        self._view, self._wants, self._preview, self._show = view, wants, preview, show
        self._told: dict[str, JobView] = {}  # what the reader knows of jobs that live
        self._shown: set[str] = set()
        self._new: dict[str, JobView] = {}
        self._woken = asyncio.Event()
        self.ended = False  # the last job that was told of has ended
        self.unsure = False  # changes may have been missed

    @property
    def live(self) -> set[str]:
        """Jobs that the reader takes for live."""
        return set(self._told)

    def forget(self, job_id: str) -> None:
        self._told.pop(job_id, None)
        self._shown.discard(job_id)

    def hear(self, job: JobView | None) -> None:
        if job is None:
            self.unsure = True
            self._woken.set()
        elif self._wants(job):
            newer = self._new.get(job["job_id"])
            if newer is None or rev_of(job) >= rev_of(newer):
                self._new[job["job_id"]] = job
                self._woken.set()

    async def heard(self, timeout_s: float) -> bool:
        """True: something may be new."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        woken = self._woken.is_set()
        self._woken.clear()
        return woken and bool(self._new)

    async def changes(self) -> AsyncIterator[ServerSentEvent]:
        new, self._new = self._new, {}
        for job in sorted(new.values(), key=rev_of):  # what comes after an `id` must be newer
            before = self._told.get(job["job_id"])
            for event in self._told_now(job, before):
                yield event
            self.ended = job["status"] in TERMINAL
            if self.ended:
                self.forget(job["job_id"])
                continue
            self._told[job["job_id"]] = job
            if self._preview and job["job_id"] not in self._shown:
                self._shown.add(job["job_id"])
                with contextlib.suppress(Unavailable):  # no previews then
                    await self._show(job["job_id"])

    def _told_now(self, job: JobView, before: JobView | None) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        if before is None or before["status"] != job["status"]:
            if before is not None and job["status"] == "SUCCESS":
                for file in job["images"]:
                    image = ImageReply.of(file).model_dump(mode="json")
                    events.append(_event("output", job, {"job_id": job["job_id"], **image}))
            whole = JobStatusResponse.of(job, self._view.age_of(job))
            events.append(_event("status", job, whole.model_dump_json()))
        elif _standing(job) != _standing(before):
            told = ProgressEvent.of(job, self._view.age_of(job))
            events.append(_event("progress", job, told.model_dump_json()))
        look, known = job["preview"], before and before["preview"]
        if self._preview and look and (known is None or look["number"] > known["number"]):
            data = {
                "job_id": job["job_id"],
                "index": look["index"],
                "content_type": "image/jpeg",
                "data": base64.b64encode(look["data"]).decode(),
            }
            events.append(_event("preview", job, data))
        return events


def _standing(job: JobView) -> tuple[Any, ...]:
    """What a `progress` event tells, but for the ETA, which always moves."""
    eta = None if job["status"] == "STARTED" else job["eta_seconds"]
    return job["progress"], job["queue_position"], job["waiting_for"], eta and round(eta)


def _event(kind: str, job: JobView, data: Any) -> ServerSentEvent:
    text = data if isinstance(data, str) else json.dumps(data)
    return ServerSentEvent(data=text, event=kind, id=job["rev"])
