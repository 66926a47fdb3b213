"""A model runner driven by hand, call by call, and the plain diffusers pipeline as the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from serve_app.engine.model.batching import BatchingDriver
from serve_app.engine.model.driver import Driver
from serve_app.engine.model.loading import ModelParts
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.model.trajectory import new_scheduler
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Scheduler
from serve_app.params import GenerationParams
from tests.engine import tiny

IN_COMPANY = 1e-4  # allowed difference on the [0, 1] image when calls are shared


class Recording(ModelRunner):
    """Keeps the images it decoded, as floats, by request."""

    def __init__(self, parts: ModelParts) -> None:
        super().__init__(parts)
        self.drawn: dict[Request, torch.Tensor] = {}

    def decode(self, requests: Sequence[Request]) -> list[Any]:
        with torch.inference_mode():
            latents = [r.state.latents for r in requests]
            drawn = self.images_of(latents, requests[0].params.decoder, requests[0].params.tile)
        self.drawn |= dict(zip(requests, drawn, strict=True))
        return super().decode(requests)


def plain(parts: ModelParts, params: GenerationParams, index: int = 0) -> torch.Tensor:
    """The reference: one image by the diffusers pipeline itself, (3, height, width) in [0, 1]."""
    pipe, config = parts.pipe, parts.pipe.scheduler.config
    before = pipe.scheduler
    pipe.scheduler = new_scheduler(config, params.scheduler)
    try:
        image = pipe(
            params.prompt,
            negative_prompt=params.negative_prompt or None,
            num_inference_steps=params.steps,
            timesteps=list(params.timesteps) or None,
            guidance_scale=params.guidance_scale,
            guidance_rescale=params.guidance_rescale,
            generator=torch.Generator("cpu").manual_seed(params.seed_of(index)),
            width=params.width,
            height=params.height,
            output_type="pt",
        ).images[0]
    finally:
        pipe.scheduler = before
    return image


def requests_of(runner: Driver, params: GenerationParams, drawing: int) -> list[Request]:
    return [Request(params, i, drawing, runner.guides(params)) for i in range(params.n)]


def run(
    runner: BatchingDriver,
    arrivals: Sequence[tuple[int, Request]],
    drop: tuple[int, Request] | None = None,
) -> None:
    """Draw all requests. Each one arrives before the call of its number; `drop` is dropped likewise."""
    scheduler = Scheduler(tiny.SharingCosts(), max_rows=64)
    left = sorted(arrivals, key=lambda a: a[0])
    call = 0
    while True:
        while left and left[0][0] <= call:
            scheduler.add(left.pop(0)[1])
        if drop is not None and drop[0] == call:
            scheduler.drop(drop[1])
        for request in scheduler.start():
            runner.start(request)
            scheduler.started(request)
        batch = scheduler.schedule()
        call += 1
        if batch is None:
            if not left:
                return
            continue
        if batch.stage is Stage.DECODING:
            for wait in runner.decode(batch.requests):
                wait()
            scheduler.update(batch)
            for request in batch.requests:
                scheduler.finish(request)
        else:
            assert not runner.denoise(batch.requests)
            scheduler.update(batch)


def alone(parts: ModelParts, params: GenerationParams) -> torch.Tensor:
    """One image by a runner that draws nothing else."""
    runner = Recording(parts)
    (request,) = requests_of(runner, params, 0)
    run(runner, [(0, request)])
    return runner.drawn[request]


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())
