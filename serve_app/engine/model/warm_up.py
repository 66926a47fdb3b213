"""warm_up(): makes a model runner's first calls of each kind, and measures what calls cost.

Knows the runner and clocks; nothing of the engine, jobs or deadlines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from serve_app.engine.costs import CostTable
from serve_app.engine.model.device import synchronize
from serve_app.engine.model.model_runner import ModelRunner, rows_of
from serve_app.engine.model.unet import ROW_BUCKETS, SharedUnet
from serve_app.engine.request import Request
from serve_app.params import GenerationParams

EAGER_COUNTS = (1, 2, 4, 8, 16, 32)
"""Row counts to measure where any count runs without padding."""
WARM_UP_SECONDS = 2.0


@torch.inference_mode()
def warm_up(runner: ModelRunner, max_rows: int | None = None) -> CostTable:
    """Measure calls of 1, 2, 4, ... rows at the native size until more rows save nothing.

    `max_rows`: the largest count, by default the spec's. If the spec says `compile`, the UNet is compiled
    before this returns; if it says `background`, a thread compiles it while the eager one serves.
    """
    spec = runner.parts.spec
    limit = max_rows or spec.max_rows
    if spec.compile is True:
        unet = runner.unet.compiled()
        compile_all(runner, unet, limit)
        runner.unet.become(unet)
    measured = _measure_rows(runner, limit)
    _ = runner.preview_colours  # fitted now, so that no job waits for it
    latents = probe_request(runner).state.latents
    decode = seconds_of(runner, lambda: runner.images_of([latents], "full"))
    if spec.compile == "background":
        runner.unet.compile_beside(lambda unet: compile_all(runner, unet, limit))
    return CostTable(spec.native_size, measured, decode=decode)


def _measure_rows(runner: ModelRunner, limit: int) -> dict[int, float]:
    """Row count -> seconds of one UNet call, at the native size."""
    counts = (*ROW_BUCKETS, limit) if runner.unet.padded else EAGER_COUNTS
    calls = {rows: probe(runner, rows) for rows in counts if rows <= limit}
    measured: dict[int, float] = {}
    began = time.perf_counter()
    for rows, call in calls.items():
        measured[rows] = seconds_of(runner, call)
        fewer = [seconds / n for n, seconds in measured.items() if n < rows]
        saves = rows < 4 or measured[rows] / rows < 0.98 * min(fewer)
        slow = time.perf_counter() - began > WARM_UP_SECONDS
        if not runner.unet.padded and (not saves or slow):
            break
    # In turns, so that a moment's disturbance of the device does not spoil a single count.
    while time.perf_counter() - began < WARM_UP_SECONDS:
        for rows in measured:
            measured[rows] = min(measured[rows], seconds_of(runner, calls[rows]))
    return measured


def probe(runner: ModelRunner, rows: int) -> Callable[[], Any]:
    """A UNet call of `rows` rows at the native size, for timing."""
    request = probe_request(runner)
    return torch.inference_mode()(lambda: runner.predict([request] * rows))


def probe_request(runner: ModelRunner) -> Request:
    """A started request without a prompt, at the native size: one row per evaluation."""
    spec = runner.parts.spec
    width, height = spec.native_size
    params = GenerationParams(
        prompt="",
        seed=0,
        width=width,
        height=height,
        steps=4,
        guidance_scale=1.0,
        scheduler=spec.schedulers[0],
        model=spec.name,
        model_revision="",
    )
    request = Request(params, index=0, drawing=0, guided=False)
    runner.start(request)
    return request


@torch.inference_mode()
def compile_all(runner: ModelRunner, unet: SharedUnet, limit: int) -> None:
    """Compile `unet` for every row count up to `limit` that it will be called with at the native size."""
    request = probe_request(runner)
    for count in [*(n for n in ROW_BUCKETS if n < limit), limit]:
        unet.compile_for(rows_of([request] * count))


def seconds_of(runner: ModelRunner, call: Callable[[], Any]) -> float:
    """Of the second call: the first one also pays for work that happens only once."""
    call()
    synchronize(runner.device)
    began = time.perf_counter()
    call()
    synchronize(runner.device)
    return time.perf_counter() - began
