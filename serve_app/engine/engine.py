"""Engine: schedule, run, settle. One thread makes the model calls; event loops read what comes of them.

Knows stages and threads; no torch (the runner has it), no HTTP, no registry. Prompts are encoded in another
thread (`texts`) and images compressed in a pool (`encoders`), so the loop makes nothing but model calls. One
lock guards all state and is never held during a model call, so no caller waits for a step.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from serve_app.engine.drawing import Listener, failed
from serve_app.engine.drawings import Drawings
from serve_app.engine.encoders import Encoders
from serve_app.engine.ensemble import Ensemble, Loaded
from serve_app.engine.forecast import unshared_seconds
from serve_app.engine.request import Request, Stage
from serve_app.engine.runner import DeviceLost, Runner, Stopped
from serve_app.engine.scheduler import Batch, Scheduler
from serve_app.engine.sources import SourcePixels
from serve_app.engine.texts import TextThread
from serve_app.engine.turns import Switch, Turns
from serve_app.errors import Dropped, OutOfMemory, RenderError, ServiceError, TooLarge
from serve_app.messages import RenderedImage, RenderEvent, Ticket
from serve_app.params import GenerationParams

log = logging.getLogger("assets.engine")

PREVIEWS_PER_IMAGE = 8
SICK_AFTER = 5
"""After so many images in a row that ran out of memory, each alone in its call, the engine is not healthy. A
renderer that fails at once is always free, so it would attract everybody's jobs."""
HANGS = "The device did not answer any more."
OCCUPANCY_RATE = 0.05  # weight of the newest call in the moving average
NOT_BEGUN = "the renderer has stopped"
COUNTED = ("steps", "calls", "images", "failed", "dropped", "coalesced", "out_of_memory")


class Engine:
    """`report_every`: seconds between two progress events of a drawing; 0: one after each step.
    `stall_seconds`: it is unhealthy after so long without progress while there is work.
    `encoders`: threads that make images.
    `on_fault`: called in the engine's thread when that has failed; then the engine refuses everything.
    `on_switch(model, seconds)`: called there when weights of a model have come to the device."""

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler | Turns,
        *,
        report_every: float = 0.0,
        stall_seconds: float = 120.0,
        encoders: int = 2,
        on_fault: Callable[[], object] = lambda: None,
        on_switch: Callable[[str, float], object] = lambda model, seconds: None,
    ) -> None:
        self.runner = runner
        self.scheduler = scheduler
        self.stall_seconds, self._on_fault, self._on_switch = stall_seconds, on_fault, on_switch
        self.start_up: dict[str, float] = {}  # seconds by part, for `stats`
        self.served: dict[str, str] = {}  # model -> revision of its weights
        self.failed: dict[str, str] = {}  # model -> why it cannot be loaded
        self.brought: dict[str, float] = {}  # model -> seconds, at start-up
        self._changed = threading.Condition()
        self._drawings = Drawings(scheduler, report_every, self._changed.notify_all)
        self._closing = False
        self._fault: BaseException | None = None
        self._too_little_memory = 0  # images in a row that ran out of memory in a call of their own
        self._last_progress = time.monotonic()
        self._occupancy = 0.0
        self._rows = 0  # of the last UNet call
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self._texts = TextThread(runner, scheduler, self._drawings, self._changed, self._failed)
        self._encoders = Encoders(
            runner, self._drawings, self._changed, self._finished, self._failed, encoders
        )

    # ---- called from the event loop ----

    def start(self) -> None:
        self._thread.start()

    def join(self, name: str, loaded: Loaded) -> None:
        """One more model, of an engine of several. Its weights come when somebody wants them."""
        assert isinstance(self.runner, Ensemble)
        assert isinstance(self.scheduler, Turns)
        with self._changed:
            self.runner.add(name, loaded)
            self.scheduler.join(name, loaded.scheduler, loaded.weights.size_bytes)
            self.served[name] = loaded.revision

    def leave_out(self, name: str) -> None:
        """A model that has joined and cannot draw. It has no requests yet."""
        assert isinstance(self.runner, Ensemble)
        assert isinstance(self.scheduler, Turns)
        with self._changed:
            self.runner.leave_out(name)
            self.scheduler.leave_out(name)
            self.served.pop(name, None)

    async def close(self) -> None:
        """End every stream, let the current call finish, stop the threads."""
        with self._changed:
            self._closing = True
            for drawing in self._drawings:
                self._drawings.fail(drawing, Dropped("the renderer is shutting down"))
            self._changed.notify_all()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        for pool in (self._texts, self._encoders):
            await asyncio.to_thread(pool.close)

    async def render(
        self, params: GenerationParams, ticket: Ticket, source: SourcePixels | None = None
    ) -> AsyncGenerator[RenderEvent]:
        """The events of one attempt. `source`: pixels of its `init_image` and `mask_image`. Closing this
        iterator drops its drawing, unless others listen to it.

        The attempt is due after its predicted solo time x the patience of its priority; what is due first
        runs first.
        """
        listener = Listener(ticket, self._acknowledged)
        try:
            with self._changed:
                if refusal := self._refusal(listener, params):
                    listener.post(failed(refusal), None)
                else:
                    guided = self.runner.guides(params)
                    if not len(self._drawings):
                        self._last_progress = time.monotonic()
                    self._drawings.join(listener, params, guided=guided, source=source)
                    self._start_waiting()
            async for event in listener.events():
                yield event
        finally:
            with self._changed:
                self._drawings.leave(listener)

    def drop(self, epoch: int, fences: Mapping[str, int]) -> int:
        """End all attempts of older epochs, and each job's attempts up to its fence; refuse them from now on.

        No step starts for them after this has returned. Returns how many streams it ended.
        """
        with self._changed:
            return self._drawings.drop(epoch, fences)

    def holders(self) -> dict[str, int]:
        """The jobs that are in the engine: job id -> newest of its attempts here."""
        with self._changed:
            return self._drawings.holders()

    def send_previews(self, job_id: str) -> int:
        """Draw previews for this job's streams from now on. Returns how many streams there are."""
        with self._changed:
            return self._drawings.send_previews(job_id)

    def give_up(self) -> None:
        """The engine is not healthy: end every stream and refuse new ones, so that nobody waits for it.

        A call that hangs is left alone.
        """
        with self._changed:
            sick = self._too_little_memory >= SICK_AFTER
            why = Stopped("The device ran out of memory time after time." if sick else HANGS)
            self._fault = self._fault or why
            self._end_all(why)

    def stats(self) -> dict[str, Any]:
        """Plain numbers, for health checks and people."""
        with self._changed:
            scheduler, counts = self.scheduler, self._drawings.counts
            return {
                "healthy": self.healthy,
                "epoch": self._drawings.fences.epoch,
                "jobs": sum(len(drawing.listeners) for drawing in self._drawings),
                "waiting": len(scheduler.waiting),
                "starting": sum(r.stage is Stage.STARTING for r in scheduler.live),
                "live": len(scheduler.live),
                "rows": self._rows,
                "rows_per_call": round(counts["rows"] / max(1, counts["calls"]), 3),
                "occupancy": round(self._occupancy, 3),
                "gain": round(self._drawings.gain.value, 3),
                "last_progress": time.monotonic() - self._last_progress,
                **_sizes_and_costs(scheduler),
                "start_up": self.start_up,
                **{name: counts[name] for name in COUNTED},
            }

    def places(self) -> dict[str, bool]:
        """Model -> whether its weights are on the device."""
        with self._changed:
            if isinstance(self.scheduler, Turns):
                return self.scheduler.places()
            return dict.fromkeys(self.served, True)

    def live_of_models(self) -> dict[str, int]:
        """Model -> its requests that have begun."""
        with self._changed:
            counts = Counter(request.model for request in self.scheduler.live)
            return {name: counts[name] for name in self.served}

    @property
    def healthy(self) -> bool:
        """False when the thread has failed, after `stall_seconds` without progress while there is work, or
        when image after image runs out of memory."""
        if self._fault is not None or self._too_little_memory >= SICK_AFTER:
            return False
        idle = time.monotonic() - self._last_progress
        return not len(self._drawings) or idle < self.stall_seconds

    def _refusal(self, listener: Listener, params: GenerationParams) -> RenderError | None:
        self._drawings.drop(listener.epoch, {})
        if self._drawings.is_dropped(listener) or self._closing:
            return Dropped()
        if self._fault is not None:  # not Stopped: this attempt had no part in it
            return Dropped(NOT_BEGUN)
        return None if self.runner.fits(params) else TooLarge()

    def _acknowledged(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # ---- the loop, in a thread of its own ----

    def _main(self) -> None:
        try:
            while batch := self._next():
                if isinstance(batch, Switch):
                    self._switch(batch)
                    continue
                began = time.perf_counter()
                outcome = self._run(batch)
                self._settle(batch, outcome, time.perf_counter() - began)
                self._preview(batch)
                del batch, outcome  # with what they hold of the device, before the next call
        except BaseException as fault:
            log.exception("the engine stopped")
            with self._changed:
                self._fault = fault
                self._end_all(Stopped())
            self._on_fault()

    def _end_all(self, why: RenderError) -> None:
        """With the lock held. Requests that had not begun are not the cause: their attempts do not count."""
        for drawing in self._drawings:
            begun = drawing.admitted_at is not None
            self._drawings.fail(drawing, why if begun else Dropped(NOT_BEGUN))

    def _next(self) -> Batch | Switch | None:
        """Wait for work. None: the engine is closing. A request of the batch is in a step from here on."""
        with self._changed:
            while not self._closing:
                if isinstance(self._fault, DeviceLost):  # another thread met it
                    raise self._fault
                self._start_waiting()
                if work := self.scheduler.schedule():
                    return work
                self._changed.wait()
        return None

    def _switch(self, switch: Switch) -> None:
        """Bring the weights of another model. If they do not fit beside others, those leave, the next time;
        if nothing is left to leave, what is drawn with them fails."""
        assert isinstance(self.runner, Ensemble)
        assert isinstance(self.scheduler, Turns)
        try:
            seconds = self.runner.bring(switch.model, switch.leaves)
        except DeviceLost:
            raise
        except ServiceError as error:
            log.warning("the weights of %s cannot be brought: %s", switch.model, error)
            with self._changed:
                if self.scheduler.make_room(switch.model):
                    return
                self._too_little_memory += 1
                why = error if isinstance(error, RenderError) else TooLarge(error.detail)
                for drawing in self._drawings:
                    if drawing.params.model == switch.model:
                        self._drawings.fail(drawing, why)
            return
        with self._changed:
            self._last_progress = time.monotonic()
            self.scheduler.switched(switch, seconds)
        self._on_switch(switch.model, seconds)

    def _run(self, batch: Batch) -> Any:
        """The model call. Returns what `decode` or `denoise` returned, or the error it raised."""
        try:
            if batch.stage is Stage.DECODING:
                return self.runner.decode(batch.requests)
            self._rows = batch.rows
            return self.runner.denoise(batch.requests)
        except Exception as error:
            _free_locals(error)
            return error

    def _settle(self, batch: Batch, outcome: Any, seconds: float) -> None:
        with self._changed:
            if isinstance(outcome, Exception):
                self._settle_error(batch, outcome)
                return
            self._last_progress = time.monotonic()
            if isinstance(self.scheduler, Turns):
                self.scheduler.charge(batch.model, seconds)
            for timing in self.runner.timings():
                self.scheduler.observe(*timing)
            costs = self.scheduler.costs_of(batch.model)
            self._drawings.gain.observe(unshared_seconds(batch, costs), seconds)
            if batch.stage is Stage.DECODING:
                self._settle_pixels(batch, outcome)
                return
            counts = self._drawings.counts
            counts["calls"] += 1
            counts["rows"] += batch.rows
            counts["steps"] += len(batch.requests) - len(outcome)
            occupied = self.scheduler.occupied(batch)
            self._occupancy += OCCUPANCY_RATE * (occupied - self._occupancy)
            for request, error in outcome.items():
                self._drawings.fail_request(request, error)
            self.scheduler.update(batch)
            self._drawings.moved(batch.requests)

    def _settle_pixels(self, batch: Batch, waits: Sequence[Callable[[], Any]]) -> None:
        self.scheduler.update(batch)
        for request, wait in zip(batch.requests, waits, strict=True):
            if request.stage is not Stage.GONE:
                notes = self.runner.notes(request)
                request.state = None
                self._encoders.finish(request, wait, notes)

    def _settle_error(self, batch: Batch, error: Exception) -> None:
        """The call failed for all of its requests, and none has moved.

        Out of memory: make smaller calls. Other errors: each request gets calls of its own, so that only
        the one which causes the error fails.
        """
        if isinstance(error, DeviceLost):
            raise error
        if isinstance(error, OutOfMemory):
            self._drawings.counts["out_of_memory"] += 1
            log.warning("out of memory with %d requests in a call", len(batch.requests))
            if isinstance(self.scheduler, Turns) and self.scheduler.make_room(batch.model):
                return  # it is made again when the other models have left
            if len(batch.requests) > 1:  # a single one that is too large says nothing about others
                self.scheduler.cut(batch)
            else:
                self._too_little_memory += 1
        else:
            log.warning("a model call of %d requests failed", len(batch.requests), exc_info=error)
            for request in batch.requests:
                request.suspect = len(batch.requests) > 1
        if len(batch.requests) == 1:
            self._drawings.fail_request(batch.requests[0], error)

    def _preview(self, batch: Batch) -> None:
        """Send previews of the requests that have just moved, where a listener wants them."""
        with self._changed:
            watched = [
                r
                for r in batch.requests
                if r.stage is Stage.DENOISING
                and r.step % max(1, r.evaluations // PREVIEWS_PER_IMAGE) == 0
                and (drawing := self._drawings.of(r))
                and drawing.wants_previews
            ]
        for request in watched:
            try:
                self._encoders.preview(request, self.runner.preview(request))
            except DeviceLost:
                raise
            except Exception:
                log.exception("a preview could not be drawn")

    # ---- the other threads ----

    def _start_waiting(self) -> None:
        """With the lock held. Prompts are encoded while the device is busy with other requests."""
        if not self._closing:
            self._texts.start(self.scheduler.start())

    def _finished(self, request: Request, image: RenderedImage) -> None:
        """With the lock held."""
        self._last_progress = time.monotonic()
        self._too_little_memory = 0
        self._drawings.deliver(request, image)

    def _failed(self, request: Request, error: Exception) -> None:
        with self._changed:
            if isinstance(error, DeviceLost):
                self._fault = error  # the loop raises it
                self._changed.notify_all()
            else:
                self._drawings.fail_request(request, error)


def _sizes_and_costs(scheduler: Scheduler | Turns) -> dict[str, Any]:
    """For `stats`: by model, where there are several."""
    if isinstance(scheduler, Scheduler):
        return {"cap": scheduler.cap, "costs_ms": scheduler.costs.as_dict()}
    return {
        "cap": {name: of.cap for name, of in scheduler.schedulers.items()},
        "costs_ms": {name: of.costs.as_dict() for name, of in scheduler.schedulers.items()},
        "models": scheduler.places(),
    }


def _free_locals(error: BaseException | None) -> None:
    """Empty the frames in the tracebacks of an error and its causes. They hold the activations of the call
    that failed, and from Python 3.12 on they outlive the error; the next call may need that memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
