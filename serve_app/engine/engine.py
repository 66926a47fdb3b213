"""Engine: schedule, run, settle. One thread runs the model; readers are served by their event loop.

Knows stages and threads; no torch (the runner has it), no HTTP, no registry. Prompts are encoded in a
thread of their own and finished pixels in a pool, so the loop does nothing but model calls. One lock
guards all bookkeeping and is never held during a model call, so nobody waits for a step.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serve_app.engine import images
from serve_app.engine.drawing import Listener, failed
from serve_app.engine.drawings import OrderBook
from serve_app.engine.forecast import unshared_seconds
from serve_app.engine.request import Request, Stage
from serve_app.engine.runner import DeviceLost, Runner, Stopped
from serve_app.engine.scheduler import Batch, Scheduler
from serve_app.errors import Dropped, OutOfMemory, RenderError, TooLarge
from serve_app.messages import PATIENCE, Preview, RenderedImage, RenderEvent
from serve_app.params import GenerationParams

log = logging.getLogger(__name__)

PREVIEWS_PER_IMAGE = 8
ADMISSION_SECONDS = 0.1
COUNTED = ("steps", "calls", "images", "failed", "dropped", "coalesced", "out_of_memory")


class Engine:
    """Renders orders until closed. Streams hear of progress once in `report_every` seconds, 0: of each step.
    `stall_seconds` without progress makes it unhealthy; after `on_fault`, which its own thread calls, it
    renders nothing any more."""

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        *,
        replica: str | None = None,
        report_every: float = 0.0,
        stall_seconds: float = 120.0,
        encoders: int = 2,
        on_fault: Callable[[], object] = lambda: None,
    ) -> None:
        self.runner = runner
        self.scheduler = scheduler
        self.stall_seconds, self._on_fault = stall_seconds, on_fault
        self.start_up: dict[str, float] = {}
        self._changed = threading.Condition()
        replica = replica or f"{socket.gethostname()}:{os.getpid()}"
        self._book = OrderBook(scheduler, replica, report_every, self._changed.notify_all)
        self._closing = False
        self._fault: BaseException | None = None
        self._unencoded: list[Request] = []  # started, and not yet taken up by the text thread
        self._last_progress = time.monotonic()
        self._occupancy = 0.0
        self._rows = 0
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self._texts = ThreadPoolExecutor(1, thread_name_prefix="text")
        self._encoders = ThreadPoolExecutor(encoders, thread_name_prefix="encode")

    # ---- called from the event loop ----

    def start(self) -> None:
        self._thread.start()

    async def close(self) -> None:
        """End every stream, let the current call finish, stop the threads."""
        with self._changed:
            self._closing = True
            for order in self._book:
                self._book.fail(order, Dropped("the renderer is shutting down"))
            self._changed.notify_all()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        for pool in (self._texts, self._encoders):
            await asyncio.to_thread(pool.shutdown)

    async def render(
        self,
        params: GenerationParams,
        *,
        job_id: str,
        epoch: int,
        fence: int,
        alone: bool = False,
        preview: bool = False,
        patience: float = PATIENCE,
    ) -> AsyncGenerator[RenderEvent]:
        """The events of one order. Closing this iterator drops the order, unless others listen.

        It is due after `patience` x its predicted solo time; what is due first runs first.
        """
        listener = Listener(job_id, epoch, fence, preview, self._heard)
        try:
            with self._changed:
                if refusal := self._refusal(listener, params):
                    listener.post(failed(refusal), None)
                else:
                    guided = self.runner.guides(params)
                    if not len(self._book):
                        self._last_progress = time.monotonic()
                    self._book.join(listener, params, guided=guided, alone=alone, patience=patience)
                    self._start_waiting()
            async for event in listener.events():
                yield event
        finally:
            with self._changed:
                self._book.leave(listener)

    def drop(self, epoch: int, fences: Mapping[str, int]) -> int:
        """Forget older epochs, and each job's attempts up to its fence, now and when they come.

        After it returned no step starts for them. Returns how many streams it ended.
        """
        with self._changed:
            return self._book.drop(epoch, fences)

    def holders(self) -> dict[str, int]:
        """Who is being drawn for: job id -> its newest fence here."""
        with self._changed:
            return self._book.holders()

    def reprioritise(self, job_id: str, patience: float) -> int:
        """Set a job's deadlines anew: `patience` x predicted solo time from now."""
        with self._changed:
            return self._book.reprioritise(job_id, patience)

    def show(self, job_id: str) -> int:
        """Draw previews for this job's streams from now on. Returns how many streams that are."""
        with self._changed:
            return self._book.show(job_id)

    def stats(self) -> dict[str, Any]:
        with self._changed:
            scheduler, counts = self.scheduler, self._book.counts
            return {
                "healthy": self.healthy,
                "epoch": self._book.fences.epoch,
                "jobs": sum(len(order.listeners) for order in self._book),
                "waiting": len(scheduler.waiting),
                "starting": sum(r.stage is Stage.STARTING for r in scheduler.live),
                "live": len(scheduler.live),
                "rows": self._rows,
                "cap": scheduler.cap,
                "rows_per_call": round(counts["rows"] / max(1, counts["calls"]), 3),
                "occupancy": round(self._occupancy, 3),
                "gain": round(self._book.gain.value, 3),
                "last_progress": time.monotonic() - self._last_progress,
                "costs_ms": scheduler.costs.as_dict(),
                "start_up": self.start_up,
                **{name: counts[name] for name in COUNTED},
            }

    @property
    def healthy(self) -> bool:
        """False when the thread has died, or nothing moved for long while there is work."""
        if self._fault is not None:
            return False
        idle = time.monotonic() - self._last_progress
        return not len(self._book) or idle < self.stall_seconds

    def _refusal(self, listener: Listener, params: GenerationParams) -> RenderError | None:
        self._book.drop(listener.epoch, {})
        if self._book.is_dropped(listener) or self._closing:
            return Dropped()
        if self._fault is not None:
            return Stopped()
        return None if self.runner.fits(params) else TooLarge()

    def _heard(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # ---- the loop, in a thread of its own ----

    def _main(self) -> None:
        try:
            while batch := self._next_batch():
                began = time.perf_counter()
                outcome = self._run(batch)
                self._settle(batch, outcome, time.perf_counter() - began)
                self._preview(batch)
                # An error's frames hold the activations of its call, which the next one may need.
                del batch, outcome
        except BaseException as fault:
            log.exception("the engine stopped")
            with self._changed:
                self._fault = fault
                for order in self._book:
                    self._book.fail(order, Stopped())
            self._on_fault()

    def _next_batch(self) -> Batch | None:
        """Wait for work. From the moment this returns, the step of its requests has started."""
        with self._changed:
            while not self._closing:
                if isinstance(self._fault, DeviceLost):  # met beside the loop
                    raise self._fault
                self._start_waiting()
                if batch := self.scheduler.schedule():
                    return batch
                self._changed.wait()
        return None

    def _run(self, batch: Batch) -> Any:
        """The model call. Its result: failures of single requests, what waits for pixels, or its error."""
        try:
            if batch.stage is Stage.DECODING:
                return self.runner.decode(batch.requests)
            self._rows = batch.rows
            return self.runner.denoise(batch.requests)
        except Exception as error:
            return error

    def _settle(self, batch: Batch, outcome: Any, seconds: float) -> None:
        with self._changed:
            if isinstance(outcome, Exception):
                self._settle_error(batch, outcome)
                return
            self._last_progress = time.monotonic()
            costs = self.scheduler.costs
            for stage, size, number, spent in self.runner.timings():
                if stage is Stage.DECODING:
                    costs.observe_decode(size, number, spent)
                else:
                    costs.observe(size, number, spent)
            self._book.gain.observe(unshared_seconds(batch, costs), seconds)
            if batch.stage is Stage.DECODING:
                self._settle_pixels(batch, outcome)
                return
            counts = self._book.counts
            counts["calls"] += 1
            counts["rows"] += batch.rows
            counts["steps"] += len(batch.requests) - len(outcome)
            self._occupancy += 0.05 * (batch.rows / self.scheduler.max_rows - self._occupancy)
            for request, error in outcome.items():
                self._book.fail_request(request, error)
            self.scheduler.update(batch)
            self._book.moved(batch.requests)

    def _settle_pixels(self, batch: Batch, waits: Sequence[Callable[[], Any]]) -> None:
        self.scheduler.update(batch)
        for request, wait in zip(batch.requests, waits, strict=True):
            if request.stage is not Stage.GONE:
                notes = self.runner.notes(request)
                request.state = None
                self._encoders.submit(self._finish, request, wait, notes)

    def _settle_error(self, batch: Batch, error: Exception) -> None:
        """No request has moved. Out of memory: smaller calls. Else: find out alone who it was."""
        if isinstance(error, DeviceLost):
            raise error
        if isinstance(error, OutOfMemory):
            self._book.counts["out_of_memory"] += 1
            log.warning("out of memory with %d requests in a call", len(batch.requests))
            if len(batch.requests) > 1:  # one that fits in no call says nothing of the others
                self.scheduler.cut(batch)
        else:
            log.warning("a model call of %d requests failed", len(batch.requests), exc_info=error)
            for request in batch.requests:
                request.suspect = len(batch.requests) > 1
        if len(batch.requests) == 1:
            self._book.fail_request(batch.requests[0], error)

    def _preview(self, batch: Batch) -> None:
        """Only for orders that somebody watches, and drawn beside the loop."""
        with self._changed:
            watched = [
                r
                for r in batch.requests
                if r.stage is Stage.DENOISING
                and r.step % max(1, r.evaluations // PREVIEWS_PER_IMAGE) == 0
                and (order := self._book.of(r))
                and order.wants_previews
            ]
        for request in watched:
            self._encoders.submit(self._show, request, self.runner.preview(request))

    # ---- beside the loop: before the first step, and after the last ----

    def _start_waiting(self) -> None:
        """Under the lock. What may start is encoded at once, while the device is busy with others."""
        for request in [] if self._closing else self.scheduler.start():
            self._unencoded.append(request)
            self._texts.submit(self._start_next)

    def _start_next(self) -> None:
        """In the text thread: whose turn it is by now."""
        with self._changed:
            request = min(self._unencoded, key=lambda r: (r.deadline, r.order, r.index))
            self._unencoded.remove(request)
        self._start(request)

    def _start(self, request: Request) -> None:
        """In the text thread: admit its order, encode its prompts, draw its noise.

        Should the process die in here or in any later call, the registry knows whom to suspect: a new
        order is told that it is admitted, and gets a moment to pass it on.
        """
        with self._changed:
            order = self._book.of(request)
            if order is not None and order.admitted_at is None:
                self._book.admit(order)
                self._changed.wait_for(lambda: order.heard, ADMISSION_SECONDS)
            if request.stage is Stage.GONE:
                return
        try:
            self.runner.start(request)
        except Exception as error:
            log.warning("a request could not be started", exc_info=error)
            self._failed_beside(request, error)
            return
        with self._changed:
            self.scheduler.started(request)
            self._changed.notify_all()

    def _failed_beside(self, request: Request, error: Exception) -> None:
        with self._changed:
            if isinstance(error, DeviceLost):
                self._fault = error  # for the loop to meet
                self._changed.notify_all()
            else:
                self._book.fail_request(request, error)

    def _show(self, request: Request, draw: Callable[[], Any]) -> None:
        """In the encoders' pool: draw, compress, hand out to those who watch."""
        data = images.preview_jpeg(draw())
        with self._changed:
            if order := self._book.of(request):
                for listener in order.listeners:
                    if listener.preview:
                        listener.post(Preview(kind="preview", index=request.index, data=data))

    def _finish(self, request: Request, wait: Callable[[], Any], notes: list[str]) -> None:
        """In the encoders' pool: wait for the pixels, check, compress, hand out."""
        try:
            pixels = wait()
            self.runner.check(pixels)
            data = images.png(pixels)
        except Exception as error:
            if not isinstance(error, RenderError):
                log.exception("an image could not be finished")
            self._failed_beside(request, error)
            return
        height, width = pixels.shape[:2]
        with self._changed:
            order, now = self._book.of(request), time.monotonic()
            self._last_progress = now
            began = order.admitted_at if order and order.admitted_at else now
            image = RenderedImage(
                kind="image",
                index=request.index,
                seed=request.seed,
                width=width,
                height=height,
                has_alpha=False,
                data=data,
                render_seconds=now - began,
                made_by=self.runner.made_by,
                notes=notes,
            )
            self._book.deliver(request, image)
