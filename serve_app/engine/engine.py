"""Engine: schedule, run, settle. One thread runs the model; readers are served by their event loop.

Knows requests, orders and the clock; no torch (the runner has it), no HTTP, no registry. One lock
guards all bookkeeping and is never held during a model call, so nobody waits for a step.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from serve_app.engine import images
from serve_app.engine.costs import Size
from serve_app.engine.fences import Fences
from serve_app.engine.orders import Listener, Order, failed, order_key
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Batch, Scheduler
from serve_app.errors import Dropped, OutOfMemory, RenderError, TooLarge
from serve_app.messages import Admitted, Preview, RenderedImage, RenderEvent
from serve_app.params import GenerationParams

log = logging.getLogger(__name__)

# deadline = arrival + this x predicted solo time. Smaller values put late long requests before short
# ones, so that under overload everybody is late; tests/engine/simulation.py shows it.
PATIENCE = 15.0
PREVIEWS_PER_IMAGE = 8
ADMISSION_SECONDS = 0.1
COUNTED = ("steps", "calls", "images", "failed", "dropped", "coalesced", "out_of_memory")


class DeviceLost(RenderError):
    """Every call after this one would fail too: the replica has to start anew."""

    title, retryable = "The device failed", True


class Stopped(RenderError):
    """Nothing more will come from this engine; another replica may draw it."""

    title, retryable = "The engine stopped", True


class Runner(Protocol):
    """What the engine needs of a model. A failed request is returned; a failed call raises."""

    @property
    def made_by(self) -> dict[str, Any]: ...
    def guides(self, params: GenerationParams) -> bool: ...
    def fits(self, params: GenerationParams) -> bool: ...
    def notes(self, request: Request) -> list[str]: ...
    def timings(self) -> list[tuple[Size, int, float]]: ...
    def denoise(self, requests: Sequence[Request]) -> dict[Request, Exception]: ...
    def decode(self, requests: Sequence[Request]) -> list[Any]: ...
    def preview(self, request: Request) -> Any: ...


class Engine:
    """Renders orders until closed. `stall_seconds` without progress makes it unhealthy."""

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        *,
        replica: str | None = None,
        stall_seconds: float = 120.0,
        encoders: int = 2,
    ) -> None:
        self.runner = runner
        self.scheduler = scheduler
        self.replica = replica or f"{socket.gethostname()}:{os.getpid()}"
        self.stall_seconds = stall_seconds
        self._changed = threading.Condition()
        self._orders: dict[int, Order] = {}
        self._by_key: dict[Any, Order] = {}
        self._numbers = itertools.count()
        self._fences = Fences()
        self._closing = False
        self._fault: BaseException | None = None
        self._last_progress = time.monotonic()
        self.start_up: dict[str, float] = {}
        self._counts = Counter[str]()
        self._occupancy = 0.0
        self._rows = 0
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self._encoders = ThreadPoolExecutor(encoders, thread_name_prefix="encode")

    # ---- called from the event loop ----

    def start(self) -> None:
        self._thread.start()

    async def close(self) -> None:
        """End every stream, let the current call finish, stop the threads."""
        with self._changed:
            self._closing = True
            for order in list(self._orders.values()):
                self._fail(order, Dropped("the renderer is shutting down"))
            self._changed.notify_all()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._encoders.shutdown)

    async def render(
        self,
        params: GenerationParams,
        *,
        job_id: str,
        epoch: int,
        fence: int,
        alone: bool = False,
        preview: bool = False,
    ) -> AsyncGenerator[RenderEvent]:
        """The events of one order. Closing this iterator drops the order, unless others listen."""
        listener = Listener(job_id, epoch, fence, preview, self._heard)
        try:
            with self._changed:
                self._join(listener, params, alone)
            async for event in listener.events():
                yield event
        finally:
            with self._changed:
                self._leave(listener)

    def drop(self, epoch: int, fences: Mapping[str, int]) -> int:
        """Forget older epochs, and each job's attempts up to its fence, now and when they come.

        After it returned no step starts for them. Returns how many streams it ended.
        """
        with self._changed:
            self._fences.see(epoch)
            self._fences.drop(fences)
            return self._end_dropped()

    def reprioritise(self, job_id: str, patience: float) -> int:
        """Set a job's deadlines anew: `patience` x predicted solo time from now."""
        with self._changed:
            orders = [
                o for o in self._orders.values() if any(x.job_id == job_id for x in o.listeners)
            ]
            for order in orders:
                self._set_deadlines(order, patience)
            self._changed.notify_all()
            return len(orders)

    def stats(self) -> dict[str, Any]:
        with self._changed:
            scheduler = self.scheduler
            return {
                "healthy": self.healthy,
                "epoch": self._fences.epoch,
                "jobs": sum(len(order.listeners) for order in self._orders.values()),
                "waiting": len(scheduler.waiting),
                "live": len(scheduler.live),
                "rows": self._rows,
                "cap": scheduler.cap,
                "rows_per_call": round(self._counts["rows"] / max(1, self._counts["calls"]), 3),
                "occupancy": round(self._occupancy, 3),
                "last_progress": time.monotonic() - self._last_progress,
                "costs_ms": scheduler.costs.as_dict(),
                "start_up": self.start_up,
                **{name: self._counts[name] for name in COUNTED},
            }

    @property
    def healthy(self) -> bool:
        """False when the thread has died, or nothing moved for long while there is work."""
        if self._fault is not None:
            return False
        idle = time.monotonic() - self._last_progress
        return not self._orders or idle < self.stall_seconds

    # ---- the loop, in a thread of its own ----

    def _main(self) -> None:
        try:
            while batch := self._next_batch():
                began = time.perf_counter()
                outcome = self._run(batch)
                self._settle(batch, outcome, time.perf_counter() - began)
                self._preview(batch)
        except BaseException as fault:
            log.exception("the engine stopped")
            with self._changed:
                self._fault = fault
                for order in list(self._orders.values()):
                    self._fail(order, Stopped())

    def _next_batch(self) -> Batch | None:
        """Wait for work. From the moment this returns, the step of its requests has started."""
        with self._changed:
            while not self._closing:
                batch = self.scheduler.schedule()
                if batch is None:
                    self._changed.wait()
                elif self._admit(batch):
                    return batch
        return None

    def _run(self, batch: Batch) -> Any:
        """The model call. Its result: failures of single requests, pixels, or the call's error."""
        try:
            if batch.stage is Stage.DECODING:
                return self.runner.decode(batch.requests)
            self._rows = batch.rows
            return self.runner.denoise(batch.requests)
        except Exception as error:
            return error

    def _settle(self, batch: Batch, outcome: Any, seconds: float) -> None:
        rows, size = batch.rows, batch.requests[0].size
        with self._changed:
            if isinstance(outcome, Exception):
                self._settle_error(batch, outcome)
                return
            self._last_progress = time.monotonic()
            for measured in self.runner.timings():
                self.scheduler.costs.observe(*measured)
            if batch.stage is Stage.DECODING:
                self.scheduler.costs.observe_decode(size, len(batch.requests), seconds)
                self._settle_pixels(batch, outcome)
                return
            self._counts["calls"] += 1
            self._counts["rows"] += rows
            self._counts["steps"] += len(batch.requests) - len(outcome)
            self._occupancy += 0.05 * (rows / self.scheduler.max_rows - self._occupancy)
            for request, error in outcome.items():
                self._fail_request(request, error)
            self.scheduler.update(batch)
            for number in {r.order for r in batch.requests}:
                if order := self._orders.get(number):
                    order.post(order.progress())

    def _settle_pixels(self, batch: Batch, outcome: Sequence[Any]) -> None:
        self.scheduler.update(batch)
        for request, pixels in zip(batch.requests, outcome, strict=True):
            if isinstance(pixels, Exception):
                self._fail_request(request, pixels)
            elif request.stage is not Stage.GONE:
                notes = self.runner.notes(request)
                request.state = None
                self._encoders.submit(self._deliver, request, pixels, notes)

    def _settle_error(self, batch: Batch, error: Exception) -> None:
        """No request has moved. Out of memory: smaller calls. Else: find out alone who it was."""
        if isinstance(error, DeviceLost):
            raise error
        if isinstance(error, OutOfMemory):
            self._counts["out_of_memory"] += 1
            log.warning("out of memory with %d requests in a call", len(batch.requests))
            self.scheduler.cut(batch)
        else:
            log.warning("a model call of %d requests failed", len(batch.requests), exc_info=error)
            for request in batch.requests:
                request.suspect = len(batch.requests) > 1
        if len(batch.requests) == 1:
            self._fail_request(batch.requests[0], error)

    def _preview(self, batch: Batch) -> None:
        """Only for orders that somebody watches; the arithmetic is a small matrix product."""
        with self._changed:
            watched = [
                r
                for r in batch.requests
                if r.stage is Stage.DENOISING
                and r.step % max(1, r.evaluations // PREVIEWS_PER_IMAGE) == 0
                and self._orders[r.order].wants_previews
            ]
        for request in watched:
            self._encoders.submit(self._show, request, self.runner.preview(request))

    # ---- orders; all of it under the lock ----

    def _join(self, listener: Listener, params: GenerationParams, alone: bool) -> None:
        self._fences.see(listener.epoch)
        self._end_dropped()
        if self._is_dropped(listener) or self._closing:
            listener.post(failed(Dropped()), None)
            return
        if self._fault is not None:
            listener.post(failed(Stopped()), None)
            return
        if not self.runner.fits(params):
            listener.post(failed(TooLarge()), None)
            return
        key = order_key(params, listener.job_id if alone else None)
        order = self._by_key.get(key)
        if order is None:
            order = self._new_order(key, params, alone)
        else:
            self._counts["coalesced"] += 1
        order.listeners.append(listener)
        if order.admitted_at is not None:
            listener.post(self._admitted(), *order.images.values(), order.progress())
        self._changed.notify_all()

    def _new_order(self, key: Any, params: GenerationParams, alone: bool) -> Order:
        if not self._orders:
            self._last_progress = time.monotonic()
        order = Order(next(self._numbers), key, params, alone)
        guided = self.runner.guides(params)
        order.requests = [
            Request(params, i, order.id, guided, alone=alone) for i in range(params.n)
        ]
        self._set_deadlines(order, PATIENCE)
        for request in order.requests:
            self.scheduler.add(request)
        self._orders[order.id] = self._by_key[key] = order
        return order

    def _set_deadlines(self, order: Order, patience: float) -> None:
        """Image i of an order is due after i + 1 solo times, so a large order yields to others."""
        now = time.monotonic()
        for request in order.requests:
            solo = self.scheduler.costs.solo_seconds(request)
            request.deadline = now + patience * solo * (request.index + 1)

    def _leave(self, listener: Listener) -> None:
        for order in list(self._orders.values()):
            if listener in order.listeners:
                order.listeners.remove(listener)
                if not order.listeners:
                    self._counts["dropped"] += 1
                    self._forget(order)

    def _is_dropped(self, listener: Listener) -> bool:
        return self._fences.dropped(listener.job_id, listener.epoch, listener.fence)

    def _end_dropped(self) -> int:
        ended = [
            listener
            for order in self._orders.values()
            for listener in order.listeners
            if self._is_dropped(listener)
        ]
        for listener in ended:
            listener.post(failed(Dropped()), None)
            self._leave(listener)
        return len(ended)

    def _admit(self, batch: Batch) -> bool:
        """Tell new orders that they start, and give them a moment to pass it on.

        Should the process die in this very call, the registry knows whom to suspect. The lock is
        free meanwhile, so requests may be dropped; False when none is left.
        """
        new = [
            o for n in {r.order for r in batch.requests} if not (o := self._orders[n]).admitted_at
        ]
        for order in new:
            order.admitted_at = time.monotonic()
            order.post(self._admitted(), order.progress())
        if new:
            self._changed.wait_for(lambda: all(o.heard for o in new), ADMISSION_SECONDS)
            batch.requests[:] = [r for r in batch.requests if r.stage is not Stage.GONE]
        return bool(batch.requests) and not self._closing

    def _heard(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _admitted(self) -> Admitted:
        return Admitted(kind="admitted", replica=self.replica)

    def _show(self, request: Request, pixels: Any) -> None:
        data = images.preview_jpeg(pixels)
        with self._changed:
            if order := self._orders.get(request.order):
                for listener in order.listeners:
                    if listener.preview:
                        listener.post(Preview(kind="preview", index=request.index, data=data))

    def _deliver(self, request: Request, pixels: Any, notes: list[str]) -> None:
        """In the encoders' pool: compress, then hand out."""
        try:
            data = images.png(pixels)
        except Exception as error:
            log.exception("an image could not be encoded")
            with self._changed:
                self._fail_request(request, error)
            return
        with self._changed:
            order = self._orders.get(request.order)
            if order is None:
                return
            self.scheduler.finish(request)
            self._counts["images"] += 1
            self._last_progress = time.monotonic()
            began = order.admitted_at or time.monotonic()
            height, width = pixels.shape[:2]
            order.images[request.index] = RenderedImage(
                kind="image",
                index=request.index,
                seed=request.seed,
                width=width,
                height=height,
                has_alpha=False,
                data=data,
                render_seconds=time.monotonic() - began,
                made_by=self.runner.made_by,
                notes=notes,
            )
            order.post(order.images[request.index], order.progress())
            if order.complete:
                order.post(None)
                self._forget(order)
            self._changed.notify_all()

    def _fail_request(self, request: Request, error: Exception) -> None:
        """An order without all of its images has failed, so the rest of it is not drawn."""
        if order := self._orders.get(request.order):
            if not isinstance(error, RenderError):
                error = RenderError(type(error).__name__)
            self._fail(order, error)

    def _fail(self, order: Order, error: RenderError) -> None:
        self._counts["failed"] += 1
        order.post(failed(error), None)
        self._forget(order)

    def _forget(self, order: Order) -> None:
        for request in order.requests:
            self.scheduler.drop(request)
        del self._orders[order.id]
        del self._by_key[order.key]
        self._changed.notify_all()
