"""The four ways to serve one device that the benchmark compares. All draw with the same parts, and all
start from the same measured costs.

Knows the engine and the plain pipeline; nothing of traces, clocks or statistics. Policies of other
servers appear as equivalents built from these parts, never under a product's name.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch

from serve_app.engine import images
from serve_app.engine.costs import CostTable
from serve_app.engine.engine import Engine
from serve_app.engine.model.loading import ModelParts
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.model.trajectory import new_scheduler
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Batch, Scheduler
from serve_app.params import GenerationParams
from tests.factories import ticket


class Arm(Protocol):
    async def draw(self, params: GenerationParams, number: int) -> None:
        """Return when the image is a PNG."""
        ...

    async def close(self) -> None: ...


class Plain:
    """(a) `StableDiffusionPipeline` called for one order at a time, first come, first served."""

    def __init__(self, parts: ModelParts, costs: CostTable, max_rows: int) -> None:
        self.parts = parts
        self._device = ThreadPoolExecutor(1)
        self._encoders = ThreadPoolExecutor(2)

    async def draw(self, params: GenerationParams, number: int) -> None:
        loop = asyncio.get_running_loop()
        pixels = await loop.run_in_executor(self._device, call_pipeline, self.parts, [params])
        await loop.run_in_executor(self._encoders, images.png, pixels[0])

    async def close(self) -> None:
        self._device.shutdown()
        self._encoders.shutdown()


class RequestLevel:
    """(b) Orders of equal settings that wait at the same time share one pipeline call; none waits to be
    joined by others."""

    def __init__(self, parts: ModelParts, costs: CostTable, max_rows: int) -> None:
        self.parts = parts
        self.max_rows = costs.knee(parts.spec.native_size, max_rows)
        self._waiting: deque[tuple[GenerationParams, Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._encoders = ThreadPoolExecutor(2)
        self._thread = threading.Thread(target=self._main)
        self._thread.start()

    async def draw(self, params: GenerationParams, number: int) -> None:
        future: Future[Any] = Future()
        with self._changed:
            self._waiting.append((params, future))
            self._changed.notify()
        pixels = await asyncio.wrap_future(future)
        await asyncio.get_running_loop().run_in_executor(self._encoders, images.png, pixels)

    async def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._encoders.shutdown()

    def _main(self) -> None:
        while batch := self._take():
            drawn = call_pipeline(self.parts, [params for params, _ in batch])
            for (_, future), pixels in zip(batch, drawn, strict=True):
                future.set_result(pixels)

    def _take(self) -> list[tuple[GenerationParams, Future[Any]]]:
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return []
                self._changed.wait()
            key = settings_of(self._waiting[0][0])
            rows = 2 if self._waiting[0][0].guidance_scale > 1 else 1
            mates = [w for w in self._waiting if settings_of(w[0]) == key]
            mates = mates[: max(1, self.max_rows // rows)]
            for mate in mates:
                self._waiting.remove(mate)
            return mates


class StepLevel:
    """(c) and (d) The engine, under the policy of `scheduler_class`."""

    scheduler_class: type[Scheduler] = Scheduler

    def __init__(self, parts: ModelParts, costs: CostTable, max_rows: int) -> None:
        scheduler = self.scheduler_class(costs, max_rows=max_rows)
        self.engine = Engine(ModelRunner(parts), scheduler, stall_seconds=3600)
        self.engine.start()

    async def draw(self, params: GenerationParams, number: int) -> None:
        async for event in self.engine.render(params, ticket(params, job_id=str(number))):
            assert event["kind"] != "failed", event

    async def close(self) -> None:
        await self.engine.close()


class FifoScheduler(Scheduler):
    """First come, first served; a call holds only requests of one kind (size, guidance or none).

    Requests join at any step while the first in line is of the running kind and there is room. A first one
    of another kind waits, and all behind it wait too, until the running ones have ended.
    """

    def schedule(self) -> Batch | None:
        ended = [r for r in self.live if r.stage is Stage.DECODING]
        if ended:
            return Batch(Stage.DECODING, ended[: self.decode_cap])
        running = [r for r in self.live if r.stage is Stage.DENOISING]
        begun = [r for r in running if r.step]
        room = self.costs.knee(self.costs.native, self.max_rows) - sum(r.rows for r in begun)
        for head in [r for r in running if not r.step]:  # in order of arrival
            if begun and (_kind(head) != _kind(begun[0]) or head.rows > room):
                break
            begun.append(head)
            room -= head.rows
        return Batch(Stage.DENOISING, begun) if begun else None


class StepFifo(StepLevel):
    scheduler_class = FifoScheduler


ARMS: dict[str, type[Plain | RequestLevel | StepLevel]] = {
    "a": Plain,
    "b": RequestLevel,
    "c": StepFifo,
    "d": StepLevel,
}


def _kind(request: Request) -> tuple[Any, ...]:
    return request.key, request.rows


def settings_of(params: GenerationParams) -> tuple[Any, ...]:
    """What one pipeline call cannot mix."""
    return (
        params.width,
        params.height,
        params.steps,
        params.guidance_scale,
        params.guidance_rescale,
        params.scheduler,
    )


def call_pipeline(parts: ModelParts, batch: list[GenerationParams]) -> Any:
    """uint8 pixels (n, height, width, 3) of orders with equal settings."""
    params = batch[0]
    pipe = parts.pipe
    pipe.scheduler = new_scheduler(pipe.scheduler.config, params.scheduler)
    drawn = pipe(
        [p.prompt for p in batch],
        negative_prompt=[p.negative_prompt for p in batch],
        num_inference_steps=params.steps,
        guidance_scale=params.guidance_scale,
        guidance_rescale=params.guidance_rescale,
        generator=[torch.Generator("cpu").manual_seed(p.seed) for p in batch],
        width=params.width,
        height=params.height,
        output_type="np",
    ).images
    return (np.asarray(drawn) * 255).round().astype("uint8")
