"""OrderBook: every order in flight, who listens to it, and which of them nobody owns any more.

Knows orders, fences and the scheduler's lists; no torch, no threads of its own. Everything here is
called under the engine's lock.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping

from serve_app.engine.fences import Fences
from serve_app.engine.orders import Listener, Order, failed, order_key
from serve_app.engine.request import Request
from serve_app.engine.scheduler import Scheduler
from serve_app.errors import Dropped, RenderError
from serve_app.messages import Admitted, RenderedImage
from serve_app.params import GenerationParams

# deadline = arrival + this x predicted solo time. Smaller values put late long requests before short
# ones, so that under overload everybody is late; tests/engine/simulation.py shows it.
PATIENCE = 15.0


class OrderBook:
    """`replica` is the name that admitted orders are told; `changed` is called after every change."""

    def __init__(self, scheduler: Scheduler, replica: str, changed: Callable[[], None]) -> None:
        self.scheduler = scheduler
        self.replica = replica
        self.fences = Fences()
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
        self, listener: Listener, params: GenerationParams, *, guided: bool, alone: bool
    ) -> None:
        """An order of its own, or a share in one that draws the very same pixels."""
        key = order_key(params, listener.job_id if alone else None)
        order = self._by_key.get(key)
        if order is None:
            order = Order(next(self._numbers), key, params, alone)
            order.requests = [
                Request(params, i, order.id, guided, alone=alone) for i in range(params.n)
            ]
            self._set_deadlines(order, PATIENCE)
            for request in order.requests:
                self.scheduler.add(request)
            self._orders[order.id] = self._by_key[key] = order
        else:
            self.counts["coalesced"] += 1
        order.listeners.append(listener)
        if order.admitted_at is not None:
            listener.post(self._admitted(), *order.images.values(), order.progress())
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

    def reprioritise(self, job_id: str, patience: float) -> int:
        """New deadlines: `patience` x predicted solo time from now. Returns orders it moved."""
        orders = [o for o in self if any(x.job_id == job_id for x in o.listeners)]
        for order in orders:
            self._set_deadlines(order, patience)
        self._changed()
        return len(orders)

    # ---- what happened to them ----

    def admit(self, order: Order) -> None:
        """Its listeners are told before anything is done for it."""
        order.admitted_at = time.monotonic()
        order.post(self._admitted(), order.progress())

    def deliver(self, request: Request, image: RenderedImage) -> None:
        """Hand out a finished image; the order ends with its last one."""
        order = self.of(request)
        if order is None:
            return
        self.scheduler.finish(request)
        self.counts["images"] += 1
        order.images[request.index] = image
        order.post(image, order.progress())
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

    def _set_deadlines(self, order: Order, patience: float) -> None:
        """Image i of an order is due after i + 1 solo times, so a large order yields to others."""
        now = time.monotonic()
        for request in order.requests:
            solo = self.scheduler.costs.solo_seconds(request)
            request.deadline = now + patience * solo * (request.index + 1)

    def _admitted(self) -> Admitted:
        return Admitted(kind="admitted", replica=self.replica)
