"""OrderBook: every order in flight, who listens to it, and which of them nobody owns any more.

Knows orders, fences and the scheduler's lists; no torch, no threads of its own. Everything here is
called under the engine's lock.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

from serve_app.engine.drawing import Listener, Order, failed, order_key
from serve_app.engine.fences import Fences
from serve_app.engine.forecast import Forecast, Gain
from serve_app.engine.request import Request
from serve_app.engine.scheduler import Scheduler
from serve_app.errors import Dropped, RenderError
from serve_app.messages import Admitted, Progress, RenderedImage
from serve_app.params import GenerationParams


class OrderBook:
    """`replica` is the name that admitted orders are told; `changed` is called after every change;
    listeners hear how far their order is once in `report_every` seconds."""

    def __init__(
        self, scheduler: Scheduler, replica: str, report_every: float, changed: Callable[[], None]
    ) -> None:
        self.scheduler = scheduler
        self.replica = replica
        self.report_every = report_every
        self.fences = Fences()
        self.gain = Gain()
        self.counts = Counter[str]()
        self._changed = changed
        self._orders: dict[int, Order] = {}
        self._by_key: dict[Hashable, Order] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Iterator[Order]:
        """A copy, so that orders may end meanwhile."""
        return iter(list(self._orders.values()))

    def of(self, request: Request) -> Order | None:
        """None when the order has ended."""
        return self._orders.get(request.order)

    # ---- coming and going ----

    def join(
        self,
        listener: Listener,
        params: GenerationParams,
        *,
        guided: bool,
        alone: bool,
        patience: float,
    ) -> None:
        """An order of its own, or a share in one that draws the very same pixels.

        A shared order is due when the most urgent of its jobs, asked for by itself, would have been.
        """
        key = order_key(params, listener.job_id if alone else None)
        order = self._by_key.get(key)
        if order is None:
            order = Order(next(self._numbers), key, params, alone)
            order.requests = [
                Request(params, i, order.id, guided, math.inf, alone) for i in range(params.n)
            ]
            order.image_seconds = self.scheduler.costs.solo_seconds(order.requests[0])
            order.alone_seconds = self.scheduler.alone_seconds(order.requests)
            for request in order.requests:
                self.scheduler.add(request)
            self._orders[order.id] = self._by_key[key] = order
        else:
            self.counts["coalesced"] += 1
        for request in order.requests:
            request.deadline = min(request.deadline, _due(request, patience, order.image_seconds))
        order.listeners.append(listener)
        if order.admitted_at is not None:
            listener.post(self._admitted(order), *order.images.values(), self._progress(order))
        self._changed()

    def leave(self, listener: Listener) -> None:
        """An order without listeners is forgotten."""
        for order in self:
            if listener in order.listeners:
                order.listeners.remove(listener)
                if not order.listeners:
                    self.counts["dropped"] += 1
                    self.forget(order)

    def drop(self, epoch: int, fences: Mapping[str, int]) -> int:
        """Forget older epochs and these attempts, now and when they come. Returns streams ended."""
        self.fences.see(epoch)
        self.fences.drop(fences)
        ended = [x for order in self for x in order.listeners if self.is_dropped(x)]
        for listener in ended:
            listener.post(failed(Dropped()), None)
            self.leave(listener)
        return len(ended)

    def is_dropped(self, listener: Listener) -> bool:
        return self.fences.dropped(listener.job_id, listener.epoch, listener.fence)

    def holders(self) -> dict[str, int]:
        """Job id -> the highest of its fences that still listen."""
        held: dict[str, int] = {}
        for order in self:
            for x in order.listeners:
                held[x.job_id] = max(x.fence, held.get(x.job_id, 0))
        return held

    def reprioritise(self, job_id: str, patience: float) -> int:
        """New deadlines: `patience` x predicted solo time from now. Returns orders it moved."""
        orders = [o for o in self if any(x.job_id == job_id for x in o.listeners)]
        for order in orders:
            for request in order.requests:
                solo = self.scheduler.costs.solo_seconds(request)
                request.deadline = _due(request, patience, solo)
        self._changed()
        return len(orders)

    def show(self, job_id: str) -> int:
        """Previews for everybody who listens to this job. Returns how many do."""
        listeners = [x for order in self for x in order.listeners if x.job_id == job_id]
        for listener in listeners:
            listener.preview = True
        return len(listeners)

    # ---- what happened to them ----

    def admit(self, order: Order) -> None:
        """Its listeners are told before anything is done for it."""
        order.admitted_at = time.monotonic()
        order.post(self._admitted(order))
        self._report([order])

    def moved(self, requests: Iterable[Request]) -> None:
        """Their orders' listeners are told how far they are."""
        self._report({o.id: o for r in requests if (o := self.of(r))}.values())

    def deliver(self, request: Request, image: RenderedImage) -> None:
        """Hand out a finished image; the order ends with its last one."""
        order = self.of(request)
        if order is None:
            return
        self.scheduler.finish(request)
        self.counts["images"] += 1
        order.images[request.index] = image
        order.post(image)
        self._report([order])
        if order.complete:
            order.post(None)
            self.forget(order)
        self._changed()

    def fail_request(self, request: Request, error: Exception) -> None:
        """An order without all of its images has failed, so the rest of it is not drawn."""
        if order := self.of(request):
            if not isinstance(error, RenderError):
                error = RenderError(type(error).__name__)
            self.fail(order, error)

    def fail(self, order: Order, error: RenderError) -> None:
        self.counts["failed"] += 1
        order.post(failed(error), None)
        self.forget(order)

    def forget(self, order: Order) -> None:
        for request in order.requests:
            self.scheduler.drop(request)
        del self._orders[order.id]
        del self._by_key[order.key]
        self._changed()

    def _admitted(self, order: Order) -> Admitted:
        solo = round(order.alone_seconds, 3)
        return Admitted(kind="admitted", replica=self.replica, solo_seconds=solo)

    def _report(self, orders: Iterable[Order]) -> None:
        """Those that have been silent long enough: each event costs processes beyond this one far more
        than it costs here."""
        now = time.monotonic()
        due = [order for order in orders if now - order.reported_at >= self.report_every]
        forecast = self._forecast() if due else None
        for order in due:
            order.reported_at = now
            order.post(self._progress(order, forecast))

    def _progress(self, order: Order, forecast: Forecast | None = None) -> Progress:
        share = order.alone_seconds / (order.image_seconds * len(order.requests))
        return order.progress((forecast or self._forecast()).seconds(order.requests, share))

    def _forecast(self) -> Forecast:
        """Sorts everything in the engine, so several orders of one moment should ask the same one."""
        scheduler = self.scheduler
        line = [*scheduler.live, *scheduler.waiting]
        return Forecast(line, scheduler.costs, self.gain.value)


def _due(request: Request, patience: float, solo: float) -> float:
    """Image i of an order is due after i + 1 solo times, so a large order yields to others."""
    return time.monotonic() + patience * solo * (request.index + 1)
