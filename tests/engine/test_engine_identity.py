"""The engine draws what the plain diffusers pipeline draws, alone and in company."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from serve_app.engine.loading import ModelParts
from serve_app.engine.model_runner import ModelRunner, new_scheduler
from serve_app.engine.request import Request
from serve_app.engine.scheduler import Scheduler
from serve_app.params import GenerationParams
from serve_app.schedulers import SCHEDULERS
from tests.engine import tiny

IN_COMPANY = 1e-4  # on the [0, 1] image


class Recording(ModelRunner):
    """A runner that keeps the float images it decoded, by request."""

    def __init__(self, parts: ModelParts) -> None:
        super().__init__(parts)
        self.drawn: dict[Request, torch.Tensor] = {}

    def decode(self, requests: Sequence[Request]) -> list[Any]:
        with torch.inference_mode():
            drawn = self._decoded([r.state.latents for r in requests], requests[0].params.decoder)
        self.drawn |= dict(zip(requests, drawn, strict=True))
        return super().decode(requests)


def plain(parts: ModelParts, params: GenerationParams, index: int = 0) -> torch.Tensor:
    """The reference: one image by the pipeline itself."""
    pipe, config = parts.pipe, parts.pipe.scheduler.config
    before = pipe.scheduler
    pipe.scheduler = new_scheduler(config, params.scheduler)
    try:
        image = pipe(
            params.prompt,
            negative_prompt=params.negative_prompt or None,
            num_inference_steps=params.steps,
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


def requests_of(runner: ModelRunner, params: GenerationParams, order: int) -> list[Request]:
    return [Request(params, i, order, runner.guides(params)) for i in range(params.n)]


def run(
    runner: ModelRunner,
    arrivals: Sequence[tuple[int, Request]],
    drop: tuple[int, Request] | None = None,
) -> None:
    """Drive the loop by hand: (call number, request) joins then; `drop` leaves then."""
    scheduler = Scheduler(tiny.sharing_costs(), max_rows=64)
    left = sorted(arrivals, key=lambda a: a[0])
    call = 0
    while True:
        while left and left[0][0] <= call:
            scheduler.add(left.pop(0)[1])
        if drop is not None and drop[0] == call:
            scheduler.drop(drop[1])
        batch = scheduler.schedule()
        call += 1
        if batch is None:
            if not left:
                return
            continue
        if batch.stage.value == "decoding":
            runner.decode(batch.requests)
            scheduler.update(batch)
            for request in batch.requests:
                scheduler.finish(request)
        else:
            assert not runner.denoise(batch.requests)
            scheduler.update(batch)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


MIXED: list[dict[str, Any]] = [
    {"steps": 8, "guidance_scale": 7.5, "seed": 1, "negative_prompt": "blurry"},
    {"steps": 5, "guidance_scale": 3.3, "seed": 2, "prompt": "a blue shield"},
    {"steps": 11, "guidance_scale": 1.0, "seed": 3},
    {"steps": 8, "guidance_scale": 5.0, "guidance_rescale": 0.7, "seed": 4, "n": 2},
]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_request_alone_is_bit_identical(scheduler: str) -> None:
    """Alone in the engine, every scheduler gives the pipeline's very bits."""
    parts = tiny.shared_parts()
    for changes in ({}, {"guidance_scale": 1.0}, {"guidance_rescale": 0.7, "steps": 7}):
        params = tiny.params(scheduler=scheduler, **changes)
        runner = Recording(parts)
        (request,) = requests_of(runner, params, 0)
        run(runner, [(0, request)])
        assert torch.equal(runner.drawn[request], plain(parts, params))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_company_changes_nothing_visible(scheduler: str) -> None:
    """Mixed steps, guidance and rescale, staggered joins and a neighbour that is dropped."""
    parts = tiny.shared_parts()
    runner = Recording(parts)
    arrivals: list[tuple[int, Request]] = []
    for i, changes in enumerate(MIXED):
        params = tiny.params(scheduler=scheduler, **changes)
        arrivals += [(2 * i, request) for request in requests_of(runner, params, i)]
    (leaver,) = requests_of(runner, tiny.params(scheduler=scheduler, seed=9, steps=20), 9)
    run(runner, [*arrivals, (1, leaver)], drop=(6, leaver))
    assert leaver not in runner.drawn
    for _, request in arrivals:
        expected = plain(parts, request.params, request.index)
        assert difference(runner.drawn[request], expected) <= IN_COMPANY
