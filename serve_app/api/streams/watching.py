"""Watching: the event streams of one ingress process, and answers that are held until a job ends.

Knows the local view and the registry; `service` decides who may see a job.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial

from sse_starlette import EventSourceResponse, ServerSentEvent

from serve_app.api.registry_client import RegistryClient
from serve_app.api.streams.seats import SeatedResponse, Seats
from serve_app.api.streams.stream import Stream
from serve_app.api.view import LocalView
from serve_app.errors import Unavailable
from serve_app.messages import TERMINAL, BatchView, JobView

PACE_S = 0.25  # least time between two batches of events of one stream
REFRESH_S = 1.0  # between two questions for a waiting job's place; longer when many streams ask
REFRESHES_PER_S = 500  # of one ingress: 5 s between two questions, when all seats are taken
LONGEST_S = 600.0  # life of a stream; a reader that is still there connects again
SHORTEST_LIFE = 0.8  # of LONGEST_S, so that streams that began together do not end together
SPREAD_S = 2.0  # in which all streams end when a newer ingress comes up: each reader connects again
MOST_BYTES = 4 * 2**20
"""A stream ends after so many bytes, and its reader connects again. Serve's proxy buffers all that is sent,
so a reader that never reads is not noticed here, and the buffer would grow without end. The first events do
not count: a reader with many jobs would otherwise never get past them."""
ASKED_AT_ONCE = 32  # jobs in one burst of questions to the registry


class Watching:
    """Streams of one ingress process."""

    def __init__(self, view: LocalView, registry: RegistryClient, seats: int) -> None:
        self._view, self._registry = view, registry
        self.seats = Seats(seats)

    async def until_final(self, job: JobView, seconds: int, client: str) -> tuple[JobView, bool]:
        """The job when it is final or the time is over, and True. While no seat is free for the client, the
        job at once, and False unless it is final."""
        if job["status"] in TERMINAL or not self.seats.free_for(client):
            return job, job["status"] in TERMINAL
        job_id = job["job_id"]
        changed = asyncio.Event()
        changed.set()  # the job may have ended before the subscription: check once at the start

        def notice(latest: JobView | None) -> None:
            if latest is None or latest["status"] in TERMINAL:
                changed.set()

        stop = self._view.subscribers.of_job(job_id, notice)
        try:
            with self.seats.taking(client), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while job["status"] not in TERMINAL:
                        await changed.wait()
                        changed.clear()
                        with contextlib.suppress(Unavailable):  # the job was accepted: wait on
                            if (latest := await self._latest(job_id)) is None:
                                break  # deleted
                            job = latest
        finally:
            stop()
        return self._view.get(job_id) or job, True

    def refuse_without_seat(self, client: str) -> None:
        """Raises TooManyStreams or StreamShareTaken if no answer can be held for the client now."""
        with self.seats.taking(client):
            pass

    def response(self, events: AsyncGenerator[ServerSentEvent], client: str) -> EventSourceResponse:
        """A stream of these events. `client`: whose seat it takes."""
        return SeatedResponse(events, self.seats, client)

    async def states(self, job: JobView, *, preview: bool) -> AsyncGenerator[JobView]:
        """The job as it is now and after each change, until it has ended or was deleted. Of changes that come
        together only the last is told. `preview`: with looks at what is drawn."""
        changed = asyncio.Event()
        changed.set()
        stop = self._view.subscribers.of_job(job["job_id"], lambda _: changed.set())
        try:
            if preview:
                with contextlib.suppress(Unavailable):  # then there are none
                    await self._registry.send_previews(job["job_id"])
            while job["status"] not in TERMINAL:
                await changed.wait()
                changed.clear()
                with contextlib.suppress(Unavailable):  # the job was accepted: wait on
                    if (latest := await self._latest(job["job_id"])) is None:
                        return
                    job = latest
                    yield job
        finally:
            stop()

    def of_job(self, job: JobView, client: str, root: str, *, preview: bool) -> EventSourceResponse:
        """The stream of one job. It ends with the job. `client`: whose seat it takes. `root`: prefix of every
        link."""

        def first() -> list[JobView]:
            return [job, self._view.get(job["job_id"]) or job]

        async def refresh() -> bool:
            """The place of a waiting job changes without a change of the job."""
            stream.may_lack_changes = False
            if (latest := await self._latest(job["job_id"])) is None:
                return False
            stream.take(latest)
            return True

        stream = Stream(self._view, preview, self._registry.send_previews, root)
        subscribe = partial(self._view.subscribers.of_job, job["job_id"], stream.take)
        events = self._events(stream, subscribe, first, refresh, lambda: stream.ended)
        return SeatedResponse(events, self.seats, client)

    def of_owner(
        self,
        owner: str,
        client: str,
        live: Callable[[], Awaitable[list[JobView]]],
        batches: Callable[[], Awaitable[list[BatchView]]],
        missed: Callable[[], Awaitable[list[JobView]]],
        root: str,
        *,
        preview: bool,
    ) -> EventSourceResponse:
        """The stream of all jobs of an owner. `live` finds the jobs that it begins with, `batches` the
        batches, `missed` the jobs that changed since the reader left; none is called before the stream has
        its seat."""
        seen, known = (0, 0), list[JobView]()

        async def ask() -> None:
            nonlocal seen
            seen = (
                self._view.cursor
            )  # `first` adds what the view learns while the registry is asked
            known.extend([*await live(), *await missed()])
            for batch in await batches():
                stream.take_batch(batch)

        def first() -> list[JobView]:
            meanwhile = [job for job in self._view.after(seen) if job["owner"] == owner]
            jobs = [*known, *meanwhile]
            known.clear()  # this closure lives as long as the stream
            return jobs

        async def refresh() -> bool:
            """If changes may have been missed: take in the live jobs, and ask for each job that was live
            and is not among them."""
            if stream.may_lack_changes:
                stream.may_lack_changes = False
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
                    stream.take(job)
            return True

        stream = Stream(self._view, preview, self._registry.send_previews, root)
        subscribers = self._view.subscribers

        def subscribe() -> Callable[[], None]:
            no_jobs = subscribers.of_owner(owner, stream.take)
            no_batches = subscribers.of_batches(owner, stream.take_batch)

            def stop() -> None:
                no_jobs()
                no_batches()

            return stop

        events = self._events(stream, subscribe, first, refresh, lambda: False)
        return SeatedResponse(events, self.seats, client, ask)

    async def _events(
        self,
        stream: Stream,
        subscribe: Callable[[], Callable[[], None]],
        first: Callable[[], Iterable[JobView]],
        refresh: Callable[[], Awaitable[bool]],
        ended: Callable[[], bool],
    ) -> AsyncGenerator[ServerSentEvent]:
        """`subscribe` makes the stream hear of changes, and returns what ends that. `first` gives the jobs to
        begin with. `refresh` asks the registry for what no change reports; if
        it returns False, the job was deleted and the stream ends."""
        ends = time.monotonic() + LONGEST_S * random.uniform(SHORTEST_LIFE, 1)
        successors, sent = self._view.successors, 0
        stop = subscribe()
        try:
            for job in first():
                stream.take(job)
            async for event in stream.changes():
                yield event
            while not ended():
                if self._view.successors != successors:
                    successors = self._view.successors
                    ends = min(ends, time.monotonic() + random.uniform(0, SPREAD_S))
                if time.monotonic() > ends:
                    return  # the reader connects again, to a newer replica if there is one
                if sent > MOST_BYTES:
                    return  # the reader connects again
                changed = await stream.changed(max(REFRESH_S, self.seats.taken / REFRESHES_PER_S))
                if stream.may_lack_changes or not changed:
                    try:
                        if not await refresh():
                            return
                    except Unavailable:
                        stream.may_lack_changes = True
                await asyncio.sleep(PACE_S)
                async for event in stream.changes():
                    sent += len(event.data or "")
                    yield event
        finally:
            stop()

    async def _latest(self, job_id: str) -> JobView | None:
        """The job, at most a second old; None: it was deleted. Raises Unavailable."""
        job = self._view.get(job_id)
        if job is not None and self._view.good_enough(job):
            return job
        asked = await self._registry.get(job_id)
        return None if asked is None or "gone" in asked else self._view.remember(asked)
