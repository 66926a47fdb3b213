"""Stream: what one reader has been told of jobs, and the events that tell what is new since.

Knows the local view and the wire format; who may see a job is the service's to say. Each event is a full
snapshot, so a reader who missed some, or comes back, has lost nothing but time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sse_starlette import ServerSentEvent

from serve_app.api.replies import ImageReply, JobStatusResponse, ProgressEvent
from serve_app.api.view import TERMINAL, LocalView, rev_of
from serve_app.errors import Unavailable
from serve_app.messages import JobView


class Stream:
    """What one reader has been told, and what is new since. A job that changes faster than it is read is
    told of once: memory is bounded by the jobs that live."""

    def __init__(
        self,
        view: LocalView,
        wants: Callable[[JobView], bool],
        preview: bool,
        send_previews: Callable[[str], Awaitable[None]],
    ) -> None:
        self._view, self._wants = view, wants
        self._preview, self._send_previews = preview, send_previews
        self._told: dict[str, JobView] = {}  # what the reader knows of jobs that live
        self._previewed: set[str] = set()
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
        self._previewed.discard(job_id)

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
            if self._preview and job["job_id"] not in self._previewed:
                self._previewed.add(job["job_id"])
                with contextlib.suppress(Unavailable):  # no previews then
                    await self._send_previews(job["job_id"])

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
