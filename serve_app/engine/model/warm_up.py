"""warm_up(): makes a model runner's first calls of each kind, and measures what calls cost.

Knows the runner and clocks; nothing of the engine, jobs or deadlines.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

from serve_app.engine.costs import CostTable
from serve_app.engine.model.batching import BatchingDriver
from serve_app.engine.model.device import device_errors, synchronize
from serve_app.engine.model.driver import Driver
from serve_app.engine.request import Request
from serve_app.errors import ModelError, OutOfMemory
from serve_app.params import GenerationParams

log = logging.getLogger("assets.engine")

COUNTS = (1, 2, 4, 8, 16, 32)
"""Row counts to measure."""
WARM_UP_SECONDS = 2.0


class Measured(NamedTuple):
    """`max_rows`: rows of the largest call that this device has the memory for, and that the spec allows."""

    costs: CostTable
    max_rows: int


@torch.inference_mode()
def warm_up(runner: Driver, max_rows: int | None = None) -> Measured:
    """Measure calls of 1, 2, 4, ... rows at the native size until more rows save nothing, or do not fit.

    `max_rows`: the largest count, by default the spec's. If the spec says `compile`, the network is compiled
    first. Raises ModelError where the device has not the memory for a single row, or to decode one image.
    """
    spec = runner.parts.spec
    if not isinstance(runner, BatchingDriver):
        return _measure_alone(runner)
    limit = max_rows or spec.max_rows
    if spec.compile:
        request = probe_request(runner)

        def compile_for(rows: int) -> bool:
            with device_errors(), runner.placement.on("network"):
                runner.compile_for([request] * rows)
            return True

        limit = _memory_ends(spec.name, range(1, limit + 1), compile_for) or limit
    measured = dict[int, float]()
    limit = _measure_rows(runner, limit, measured) or limit
    _ = runner.preview_colours  # fitted now, so that no job waits for it
    request = probe_request(runner)
    try:
        decode = seconds_of(runner, lambda: runner.images([request]))
    except OutOfMemory as error:
        raise _too_large(spec.name, "to decode one image") from error
    return Measured(CostTable(spec.native_size, measured, decode=decode), limit)


def _measure_alone(runner: Driver) -> Measured:
    """Of a pipeline whose requests share no call: one image of few steps."""
    request, spec = probe_request(runner), runner.parts.spec
    seconds = 0.0
    try:
        while not request.denoised:  # the first step also encodes the prompt
            seconds = _timed(runner, lambda: runner.denoise([request]))
            request.step += 1
        decode = _timed(runner, lambda: runner.decode([request])[0]())
    except OutOfMemory as error:
        raise _too_large(spec.name, "for one image") from error
    runner.timings()
    return Measured(CostTable(spec.native_size, {1: seconds}, decode=decode), 1)


def _timed(runner: Driver, call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    synchronize(runner.device)
    return time.perf_counter() - began


def _measure_rows(runner: BatchingDriver, limit: int, measured: dict[int, float]) -> int | None:
    """Fill in row count -> seconds of one UNet call, at the native size. As `_memory_ends`."""
    began = time.perf_counter()

    def measure(rows: int) -> bool:
        measured[rows] = seconds_of(runner, probe(runner, rows))
        fewer = [seconds / n for n, seconds in measured.items() if n < rows]
        saves = rows < 4 or measured[rows] / rows < 0.98 * min(fewer)
        return saves and time.perf_counter() - began <= WARM_UP_SECONDS

    counts = [rows for rows in COUNTS if rows <= limit]
    ended_at = _memory_ends(runner.parts.spec.name, counts, measure)
    # In turns, so that a moment's disturbance of the device does not spoil a single count.
    while time.perf_counter() - began < WARM_UP_SECONDS:
        for rows in measured:
            measured[rows] = min(measured[rows], seconds_of(runner, probe(runner, rows)))
    return ended_at


def _memory_ends(name: str, counts: Iterable[int], call: Callable[[int], bool]) -> int | None:
    """Make the call of each row count, until it says that it is enough. Returns the largest count that the
    device had the memory for, if it ran out; else None. Raises ModelError if not even the first one fits."""
    fitted: int | None = None
    for rows in counts:
        try:
            more = call(rows)
        except OutOfMemory as error:
            if fitted is None:
                raise _too_large(name, "for a call of one row") from error
            log.warning("model %r: the device has no memory for %d rows in a call", name, rows)
            return fitted
        fitted = rows
        if not more:
            break
    return None


def _too_large(name: str, what: str) -> ModelError:
    return ModelError(
        f"model {name!r}: this device has not enough memory {what} at the native size; give it a larger "
        "device or a smaller native_size"
    )


def probe(runner: BatchingDriver, rows: int) -> Callable[[], Any]:
    """A UNet call of `rows` rows at the native size, for timing."""
    request = probe_request(runner)

    def call() -> Any:
        with runner.placement.on("network"):
            return runner.predict([request] * rows)

    return torch.inference_mode()(call)


def probe_request(runner: Driver) -> Request:
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


def seconds_of(runner: Driver, call: Callable[[], Any]) -> float:
    """Of the second call: the first one also pays for work that happens only once. Raises OutOfMemory."""
    with device_errors():
        call()
        synchronize(runner.device)
        return _timed(runner, call)
