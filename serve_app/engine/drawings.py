"""Drawings: all drawings in the engine, who listens to each, and the events they are sent.

Knows fences, forecasts and the scheduler's lists; no torch and no threads. Everything here is called under
the engine's lock.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

from serve_app.engine.drawing import Drawing, Listener, drawing_key, failed
from serve_app.engine.fences import Fences
from serve_app.engine.forecast import Forecast, Gain
from serve_app.engine.request import Request
from serve_app.engine.scheduler import Scheduler
from serve_app.engine.sources import SourcePixels
from serve_app.engine.turns import Turns
from serve_app.errors import Dropped, RenderError
from serve_app.messages import Admitted, Progress, RenderedImage
from serve_app.params import GenerationParams


class Drawings:
    """`report_every`: seconds between two progress events of a drawing, at least. `changed` is called
    after every change that may concern the loop."""

    def __init__(
        self, scheduler: Scheduler | Turns, report_every: float, changed: Callable[[], None]
    ) -> None:
        self.scheduler = scheduler
        self.report_every = report_every
        self.fences = Fences()
        self.gain = Gain()
        self.counts = Counter[str]()
        self._changed = changed
        self._by_id: dict[int, Drawing] = {}
        self._by_key: dict[Hashable, Drawing] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Drawing]:
        """Over a copy, so that drawings may end during the loop."""
        return iter(list(self._by_id.values()))

    def of(self, request: Request) -> Drawing | None:
        """None when the drawing has ended."""
        return self._by_id.get(request.drawing)

    # ---- joining and leaving ----

    def join(
        self,
        listener: Listener,
        params: GenerationParams,
        *,
        guided: bool,
        source: SourcePixels | None = None,
    ) -> None:
        """Start a drawing for this listener, or let it share one with the same pixels.

        Sharing never delays a job: a drawing keeps the earliest deadline that any of its jobs asked for.
        """
        key = drawing_key(params, listener.job_id if listener.alone else None)
        drawing = self._by_key.get(key)
        if drawing is None:
            drawing = self._add(key, params, source, guided=guided, alone=listener.alone)
        else:
            self.counts["coalesced"] += 1
        for request in drawing.requests:
            due = _due(request, listener.patience, drawing.image_seconds)
            request.deadline = min(request.deadline, due)
        drawing.listeners.append(listener)
        if drawing.admitted_at is not None:
            listener.post(
                self._admitted(drawing), *drawing.images.values(), self._progress(drawing)
            )
        self._changed()

    def _add(
        self,
        key: Hashable,
        params: GenerationParams,
        source: SourcePixels | None,
        *,
        guided: bool,
        alone: bool,
    ) -> Drawing:
        drawing = Drawing(next(self._numbers), key, params, alone)
        drawing.requests = [
            Request(params, i, drawing.id, guided, math.inf, alone, source=source)
            for i in range(params.n)
        ]
        drawing.image_seconds = self.scheduler.solo_seconds(drawing.requests[0])
        drawing.alone_seconds = self.scheduler.alone_seconds(drawing.requests)
        for request in drawing.requests:
            self.scheduler.add(request)
        self._by_id[drawing.id] = self._by_key[key] = drawing
        return drawing

    def leave(self, listener: Listener) -> None:
        """Remove a listener, and its drawing if it was the last one."""
        for drawing in self:
            if listener in drawing.listeners:
                drawing.listeners.remove(listener)
                if not drawing.listeners:
                    self.counts["dropped"] += 1
                    self.forget(drawing)

    def drop(self, epoch: int, fences: Mapping[str, int]) -> int:
        """End the streams of older epochs and of these attempts, and refuse them from now on.

        `fences`: job id -> newest attempt that is dropped. Returns how many streams ended.
        """
        self.fences.see(epoch)
        self.fences.drop(fences)
        ended = [x for drawing in self for x in drawing.listeners if self.is_dropped(x)]
        for listener in ended:
            listener.post(failed(Dropped()), None)
            self.leave(listener)
        return len(ended)

    def is_dropped(self, listener: Listener) -> bool:
        return self.fences.dropped(listener.job_id, listener.epoch, listener.fence)

    def holders(self) -> dict[str, int]:
        """Job id -> the newest of its attempts that still listens."""
        held: dict[str, int] = {}
        for drawing in self:
            for x in drawing.listeners:
                held[x.job_id] = max(x.fence, held.get(x.job_id, 0))
        return held

    def send_previews(self, job_id: str) -> int:
        """Send previews to all listeners of this job from now on. Returns how many there are."""
        listeners = [x for drawing in self for x in drawing.listeners if x.job_id == job_id]
        for listener in listeners:
            listener.wants_previews = True
        return len(listeners)

    # ---- events ----

    def admit(self, drawing: Drawing) -> None:
        """Tell its listeners that work on it starts. Call this before anything is done for it."""
        drawing.admitted_at = time.monotonic()
        drawing.post(self._admitted(drawing))
        self._report([drawing])

    def moved(self, requests: Iterable[Request]) -> None:
        """These requests took a step: send progress to the listeners of their drawings."""
        self._report({d.id: d for r in requests if (d := self.of(r))}.values())

    def deliver(self, request: Request, image: RenderedImage) -> None:
        """Send a finished image to the listeners; the drawing ends with its last one."""
        drawing = self.of(request)
        if drawing is None:
            return
        self.scheduler.finish(request)
        self.counts["images"] += 1
        drawing.images[request.index] = image
        drawing.post(image)
        self._report([drawing])
        if drawing.complete:
            drawing.post(None)
            self.forget(drawing)
        self._changed()

    def fail_request(self, request: Request, error: Exception) -> None:
        """Fail the whole drawing of this request: its job needs all images or none."""
        if drawing := self.of(request):
            if not isinstance(error, RenderError):
                error = RenderError(type(error).__name__)
            self.fail(drawing, error)

    def fail(self, drawing: Drawing, error: RenderError) -> None:
        """Tell its listeners, end their streams and forget it."""
        self.counts["failed"] += 1
        drawing.post(failed(error), None)
        self.forget(drawing)

    def forget(self, drawing: Drawing) -> None:
        """Remove it and all of its requests."""
        for request in drawing.requests:
            self.scheduler.drop(request)
        del self._by_id[drawing.id]
        del self._by_key[drawing.key]
        self._changed()

    def _admitted(self, drawing: Drawing) -> Admitted:
        solo = round(drawing.alone_seconds, 3)
        return Admitted(kind="admitted", solo_seconds=solo)

    def _report(self, drawings: Iterable[Drawing]) -> None:
        """Send progress to those drawings whose last report is `report_every` seconds old.

        Each event also costs the event loop and the registry time, far more than it costs here.
        """
        now = time.monotonic()
        due = [drawing for drawing in drawings if now - drawing.reported_at >= self.report_every]
        forecast = self._forecast() if due else None
        for drawing in due:
            drawing.reported_at = now
            drawing.post(self._progress(drawing, forecast))

    def _progress(self, drawing: Drawing, forecast: Forecast | None = None) -> Progress:
        share = drawing.alone_seconds / (drawing.image_seconds * len(drawing.requests))
        return drawing.progress((forecast or self._forecast()).seconds(drawing.requests, share))

    def _forecast(self) -> Forecast:
        """Of everything in the engine. It sorts all requests, so make one and ask it for several drawings."""
        scheduler = self.scheduler
        line = [*scheduler.live, *scheduler.waiting]
        return Forecast(line, scheduler, self.gain.value)


def _due(request: Request, patience: float, solo: float) -> float:
    """Image i is due after `patience` x (i + 1) solo times, so a large drawing yields to small ones."""
    return time.monotonic() + patience * solo * (request.index + 1)
