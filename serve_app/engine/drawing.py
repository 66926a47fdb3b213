"""Drawing: what the engine holds for one or more jobs that want the same pixels. Listener: one reader of it.

Knows events and event loops; nothing of batches, costs or models. Drawings and `wants_previews` are changed
only under the engine's lock; the rest of a listener only in the event loop it belongs to.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from serve_app.engine.request import RECORDED, Request, Stage
from serve_app.errors import ServiceError
from serve_app.messages import Progress, RenderedImage, RenderEvent, RenderFailed, Ticket
from serve_app.params import GenerationParams
from serve_app.priorities import PATIENCE_OF


class Listener:
    """One call of `Engine.render`: whose attempt it is, and the events it has not read yet.

    A slow reader gets every image, but of progress and of an image's previews only the latest.
    `on_acknowledged` is called in the event loop when `acknowledged` becomes true.
    """

    def __init__(self, ticket: Ticket, on_acknowledged: Callable[[], None]) -> None:
        self.job_id = ticket["job_id"]
        self.epoch = ticket["epoch"]
        self.fence = ticket["fence"]
        self.alone = ticket["alone"]
        self.patience = PATIENCE_OF[ticket["priority"]]
        self.wants_previews = ticket["preview"]
        self.acknowledged = (
            False  # its reader asked for the next event, so it has handled "admitted"
        )
        self._on_acknowledged = on_acknowledged
        self._loop = asyncio.get_running_loop()
        self._unread: deque[RenderEvent | None] = deque()
        self._arrived = asyncio.Event()

    def post(self, *events: RenderEvent | None) -> None:
        """Call it from any thread. None ends the stream."""
        with suppress(RuntimeError):  # the event loop is closed, so nobody reads any more
            self._loop.call_soon_threadsafe(self._take, events)

    def _take(self, events: tuple[RenderEvent | None, ...]) -> None:
        for event in events:
            last = self._unread[-1] if self._unread else None
            if last and event and last["kind"] == event["kind"] and _replaceable(last, event):
                self._unread.pop()
            self._unread.append(event)
        self._arrived.set()

    async def events(self) -> AsyncIterator[RenderEvent]:
        """Every event as it comes, until None is posted."""
        while True:
            while not self._unread:
                self._arrived.clear()
                await self._arrived.wait()
            event = self._unread.popleft()
            if event is None:
                return
            yield event
            if not self.acknowledged:
                self.acknowledged = True
                self._on_acknowledged()


@dataclass(eq=False, slots=True)
class Drawing:
    """The images of one GenerationParams. Jobs of equal `key` want the same pixels and share a drawing."""

    id: int
    key: Hashable
    params: GenerationParams
    alone: bool
    requests: list[Request] = field(default_factory=list[Request])
    listeners: list[Listener] = field(default_factory=list[Listener])
    images: dict[int, RenderedImage] = field(default_factory=dict[int, RenderedImage])  # by index
    admitted_at: float | None = None  # on the monotonic clock
    reported_at: float = -math.inf  # when its last progress was sent, on the same clock
    image_seconds: float = 0.0  # predicted at arrival for one image that shares no calls
    alone_seconds: float = 0.0  # predicted for all images, if nothing else runs

    @property
    def complete(self) -> bool:
        return len(self.images) == len(self.requests)

    @property
    def acknowledged(self) -> bool:
        """Whether every listener has handled "admitted"."""
        return all(listener.acknowledged for listener in self.listeners)

    @property
    def wants_previews(self) -> bool:
        return any(listener.wants_previews for listener in self.listeners)

    def post(self, *events: RenderEvent | None) -> None:
        """To all listeners. None ends their streams."""
        for listener in self.listeners:
            listener.post(*events)

    def progress(self, eta_seconds: float) -> Progress:
        """Counts over all images; the stage is that of the image that is furthest behind."""
        stages = {r.stage for r in self.requests if r.index not in self.images}
        stage = "decoding"
        if self.admitted_at is None:
            stage = "queued"
        elif stages & {Stage.WAITING, Stage.STARTING, Stage.DENOISING}:
            stage = "denoising" if any(r.step for r in self.requests) else "encoding"
        return Progress(
            kind="progress",
            stage=stage,
            step=sum(r.step for r in self.requests),
            steps=sum(r.evaluations for r in self.requests),
            image=len(self.images),
            images=len(self.requests),
            eta_seconds=round(eta_seconds, 2),
        )


def drawing_key(params: GenerationParams, alone_for: str | None) -> Hashable:
    """Every parameter that reaches the pixels; `alone_for` is the job id of a job under quarantine.

    Such a job shares its drawing with no other job. Of a source picture only its hash counts, wherever it
    came from.
    """
    return alone_for, params.model_dump_json(exclude=_SAME_PIXELS)


_SAME_PIXELS: dict[str, Any] = {
    **dict.fromkeys(RECORDED, True),
    "init_image": {"upload_id", "given"},
    "mask_image": {"upload_id", "given"},
    "control": {"__all__": {"image": {"upload_id", "given"}}},
    "reference": {"image": {"upload_id", "given"}},
}


def failed(error: ServiceError) -> RenderFailed:
    """The event that tells a reader of this error."""
    return RenderFailed(
        kind="failed",
        code=error.code,
        title=error.title,
        detail=error.detail,
        retryable=error.retryable,
    )


def _replaceable(last: RenderEvent, event: RenderEvent) -> bool:
    """Whether an unread `last` may be left out, now that `event` of the same kind follows it."""
    if last["kind"] == "preview" and event["kind"] == "preview":
        return last["index"] == event["index"]
    return event["kind"] == "progress"
