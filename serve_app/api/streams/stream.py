"""Stream: turns changes of jobs into the events of one reader.

Knows which state of each job the reader has, and the wire format; `service` decides who may see a job. Each
event is a full snapshot, so a reader that missed some needs only the next one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sse_starlette import ServerSentEvent

from serve_app.api.batches.replies import BatchResponse
from serve_app.api.replies import ImageReply, JobStatusResponse
from serve_app.api.streams.event_data import ProgressEvent
from serve_app.api.view import LocalView, rev_of
from serve_app.errors import Unavailable
from serve_app.messages import TERMINAL, BatchView, JobView


class Stream:
    """`take` takes changes in, `changes` makes events of them. Of a job that changes several times before
    the reader takes its event, only the newest state is kept: memory is bounded by the number of jobs.

    `preview`: the reader asked for previews, and `send_previews` makes a job's renderer produce them. `root`:
    prefix of every link.
    """

    def __init__(
        self,
        view: LocalView,
        preview: bool,
        send_previews: Callable[[str], Awaitable[None]],
        root: str = "",
    ) -> None:
        self._view, self._root = view, root
        self._preview, self._send_previews = preview, send_previews
        self._sent: dict[str, JobView] = {}  # live jobs, in the state that the reader has
        self._previewed: set[str] = set()
        self._new: dict[str, JobView] = {}  # newest states that the reader does not have yet
        self._batches: dict[str, BatchView] = {}  # those that the reader has not been told of
        self._woken = asyncio.Event()
        self.ended = False  # the last event was the end of a job
        self.may_lack_changes = False

    @property
    def live(self) -> set[str]:
        """Jobs that are live as far as the reader knows."""
        return set(self._sent)

    def forget(self, job_id: str) -> None:
        """The job has ended or was deleted."""
        self._sent.pop(job_id, None)
        self._previewed.discard(job_id)

    def take(self, job: JobView | None) -> None:
        """Take in a job's state. None: changes may have been missed."""
        if job is None:
            self.may_lack_changes = True
            self._woken.set()
            return
        newer = self._new.get(job["job_id"])
        if newer is None or rev_of(job) >= rev_of(newer):
            self._new[job["job_id"]] = job
            self._woken.set()

    def take_batch(self, batch: BatchView) -> None:
        """Take in a batch that lives, or that was just ordered, ordered again or cancelled."""
        self._batches[batch["batch_id"]] = batch
        self._woken.set()

    async def changed(self, timeout_s: float) -> bool:
        """Wait for a change, at most `timeout_s`. True: there is one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        woken = self._woken.is_set()
        self._woken.clear()
        return woken and bool(self._new or self._batches)

    async def changes(self) -> AsyncIterator[ServerSentEvent]:
        """The events for everything taken in since the last call."""
        new, self._new = self._new, {}
        batches, self._batches = self._batches, {}
        for job in sorted(new.values(), key=rev_of):  # a reader resumes by `id`, so ids must grow
            # Nothing else here waits: a thousand jobs would be told before anybody else has a turn, and
            # before a reader's leaving is heard.
            await asyncio.sleep(0)
            before = self._sent.get(job["job_id"])
            for event in self._events_of(job, before):
                yield event
            self.ended = job["status"] in TERMINAL
            if self.ended:
                self.forget(job["job_id"])
                continue
            self._sent[job["job_id"]] = job
            if self._preview and job["job_id"] not in self._previewed:
                self._previewed.add(job["job_id"])
                with contextlib.suppress(Unavailable):  # then this job has no previews
                    await self._send_previews(job["job_id"])
        for batch in batches.values():  # without an `id`: a reader resumes at the revision of a job
            data = BatchResponse.of(batch, self._root).model_dump_json()
            yield ServerSentEvent(data=data, event="batch")

    def _events_of(self, job: JobView, before: JobView | None) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        if before is None or before["status"] != job["status"]:
            if before is not None and job["status"] == "SUCCESS":
                for file in job["images"]:
                    image = ImageReply.of(file, self._root).model_dump(mode="json")
                    output = _event("output", job, {"job_id": job["job_id"], **image})
                    output.id = (
                        None  # the status event after it has the id: who resumes there read both
                    )
                    events.append(output)
            whole = JobStatusResponse.of(job, self._view.age_of(job), self._root)
            events.append(_event("status", job, whole.model_dump_json()))
        elif _standing(job) != _standing(before):
            progress = ProgressEvent.of(job, self._view.age_of(job))
            events.append(_event("progress", job, progress.model_dump_json()))
        preview, known = job["preview"], before and before["preview"]
        if self._preview and preview and (known is None or preview["number"] > known["number"]):
            data = {
                "job_id": job["job_id"],
                "index": preview["index"],
                "content_type": "image/jpeg",
                "data": base64.b64encode(preview["data"]).decode(),
            }
            events.append(_event("preview", job, data))
        return events


def _standing(job: JobView) -> tuple[Any, ...]:
    """The content of a `progress` event, as far as a change of it is worth an event. The ETA of a running
    job is left out, since it changes all the time."""
    eta = None if job["status"] == "STARTED" else job["eta_seconds"]
    return job["progress"], job["queue_position"], job["waiting_for"], eta and round(eta)


def _event(kind: str, job: JobView, data: Any) -> ServerSentEvent:
    text = data if isinstance(data, str) else json.dumps(data)
    return ServerSentEvent(data=text, event=kind, id=job["rev"])
