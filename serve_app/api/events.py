"""Event streams: what changes about jobs, told as it happens, and answers that are held until a job ends.

Knows the local view and the wire format; who may see a job is the board's to say. Each event is a full
snapshot, so a reader who missed some, or comes back, has lost nothing but time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
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


class Seats:
    """How many requests may stay open at a time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    @property
    def free(self) -> bool:
        return self.taken < self.limit

    @contextlib.contextmanager
    def taking(self) -> Generator[None]:
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


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
        final = asyncio.Event()

        def hear(changed: JobView | None) -> None:
            if changed is None or (
                changed["job_id"] == job["job_id"] and changed["status"] in TERMINAL
            ):
                final.set()

        stop = self._view.subscribe(hear)
        try:
            with self._seats.taking(), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    latest = self._view.get(job["job_id"])
                    while latest is None or latest["status"] not in TERMINAL:
                        await final.wait()
                        final.clear()
                        latest = self._view.get(job["job_id"]) or await self._ask(job["job_id"])
        finally:
            stop()
        return self._view.get(job["job_id"]) or job, True

    def of_job(self, job: JobView, *, preview: bool) -> EventSourceResponse:
        """Raises TooManyStreams."""

        def wants(changed: JobView) -> bool:
            return changed["job_id"] == job["job_id"]

        stream = Stream(self._view, wants, preview, self._registry.show)
        return self._respond(stream, [job], lambda: self._refreshed(stream, job["job_id"]))

    def of_owner(
        self, owner: str, first: Iterable[JobView], *, preview: bool
    ) -> EventSourceResponse:
        """`first`: what the reader should know to begin with. Raises TooManyStreams."""

        def wants(changed: JobView) -> bool:
            return changed["owner"] == owner

        stream = Stream(self._view, wants, preview, self._registry.show)
        return self._respond(stream, first, None)

    def _respond(
        self,
        stream: Stream,
        first: Iterable[JobView],
        refresh: Callable[[], Awaitable[bool]] | None,
    ) -> EventSourceResponse:
        if not self._seats.free:
            raise TooManyStreams(f"{self._seats.limit} streams are open already.")
        events = self._events(stream, first, refresh)
        return EventSourceResponse(events, ping=PING_S, send_timeout=SEND_TIMEOUT_S)

    async def _events(
        self,
        stream: Stream,
        first: Iterable[JobView],
        refresh: Callable[[], Awaitable[bool]] | None,
    ) -> AsyncGenerator[ServerSentEvent]:
        ends = time.monotonic() + LONGEST_S
        deployment = self._view.deployment
        stop = self._view.subscribe(stream.hear)
        try:
            with self._seats.taking():
                for job in first:
                    stream.hear(job)
                while True:
                    async for event in stream.changes():
                        yield event
                    if refresh is not None and stream.ended:
                        return
                    if time.monotonic() > ends or self._view.deployment != deployment:
                        return  # a newer replica serves whoever connects again
                    pause = max(REFRESH_S, self._seats.taken / 50)
                    quiet = not await stream.heard(pause)
                    if quiet and refresh is not None and not await refresh():
                        return
                    await asyncio.sleep(PACE_S)
        finally:
            stop()

    async def _refreshed(self, stream: Stream, job_id: str) -> bool:
        """A job that waits moves up without changing. False: it is deleted."""
        job = self._view.get(job_id)
        if job is None or not self._view.good_enough(job):
            try:
                job = await self._ask(job_id)
            except Unavailable:
                return True
        if job is None:
            return False
        stream.hear(job)
        return True

    async def _ask(self, job_id: str) -> JobView | None:
        asked = await self._registry.get(job_id)
        if asked is None or "gone" in asked:
            return None
        return self._view.remember(asked)


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

    def hear(self, job: JobView | None) -> None:
        if job is None:
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
        for job in new.values():
            before = self._told.get(job["job_id"])
            for event in self._told_now(job, before):
                yield event
            self.ended = job["status"] in TERMINAL
            if self.ended:
                self._told.pop(job["job_id"], None)
                self._shown.discard(job["job_id"])
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
            return events
        if _standing(job) != _standing(before):
            told = ProgressEvent.of(job, self._view.age_of(job))
            events.append(_event("progress", job, told.model_dump_json()))
        look, known = job["preview"], before["preview"]
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
