"""The real scheduler on a virtual clock: hours of traffic in a second, equal on every machine.

Knows costs and arrivals only. There is no model and no thread; a call of n rows takes exactly c(n).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from serve_app.engine.costs import CostTable
from serve_app.engine.forecast import Forecast, Gain, unshared_seconds
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Scheduler
from serve_app.priorities import PATIENCE
from tests.factories import params

SIZE = (64, 64)
COUNTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Device:
    """c(n) = a + b n with b = 1; decoding an image costs `decode`, whatever else is decoded."""

    a: float
    decode: float = 1.0

    def costs(self) -> CostTable:
        return CostTable(SIZE, {n: self.a + n for n in COUNTS}, decode=self.decode)


@dataclass(frozen=True)
class Arrival:
    at: float
    short: bool
    request: Request
    patience: float = PATIENCE


class Run(NamedTuple):
    """The outcome of a trace, sorted by arrival."""

    latencies: np.ndarray
    end: float  # when the last request ended
    forecasts: np.ndarray  # seconds to its end, predicted when it started
    waits: np.ndarray  # seconds it then took
    gain: float


def image(number: int, steps: int, guidance: float, index: int = 0) -> Request:
    """A request for image `index` of drawing `number`."""
    width, height = SIZE
    wanted = params(width=width, height=height, steps=steps, guidance_scale=guidance)
    return Request(wanted, index, number, guidance > 1)


def trace(device: Device, load: float, count: int, seed: int, *, mixed: bool) -> list[Arrival]:
    """Poisson arrivals at `load` x the rate that one request at a time can serve.

    `mixed`: seven short plain requests to three long guided ones; else all are equal.
    """
    rng, costs = random.Random(seed), device.costs()
    kinds = [(4, 1.0)] * 7 + [(30, 5.0)] * 3 if mixed else [(20, 5.0)]
    mean = sum(costs.solo_seconds(image(0, *kind)) for kind in kinds) / len(kinds)
    now, arrivals = 0.0, list[Arrival]()
    for number in range(count):
        now += rng.expovariate(load / mean)
        steps, guidance = rng.choice(kinds)
        arrivals.append(Arrival(now, steps == 4, image(number, steps, guidance)))
    return arrivals


def one_at_a_time(device: Device, arrivals: Sequence[Arrival]) -> tuple[np.ndarray, float]:
    """The reference, first come first served: latencies, and when the last request ended."""
    costs, now = device.costs(), 0.0
    latencies: list[float] = []
    for arrival in arrivals:
        now = max(now, arrival.at) + costs.solo_seconds(arrival.request)
        latencies.append(now - arrival.at)
    return np.array(latencies), now


def engine(
    device: Device,
    arrivals: Sequence[Arrival],
    make: Callable[[CostTable], Scheduler] = Scheduler,
) -> Run:
    """The same arrivals by the scheduler under test, with a forecast for each request when it starts."""
    costs, gain = device.costs(), Gain()
    scheduler = make(costs)
    left = list(arrivals)
    forecasts: dict[Request, float] = {}
    admitted: dict[Request, float] = {}
    done: dict[Request, float] = {}
    now = 0.0
    while len(done) < len(arrivals):
        while left and left[0].at <= now:
            arrival = left.pop(0)
            request = arrival.request
            request.deadline = arrival.at + arrival.patience * costs.solo_seconds(request)
            scheduler.add(request)
        for request in scheduler.start():
            company = Forecast([*scheduler.live, *scheduler.waiting], costs, gain.value)
            forecasts[request], admitted[request] = company.seconds([request]), now
            scheduler.started(request)
        batch = scheduler.schedule()
        if batch is None:
            now = left[0].at
            continue
        decoding = batch.stage is Stage.DECODING
        seconds = device.decode * len(batch.requests) if decoding else device.a + batch.rows
        now += seconds
        gain.observe(unshared_seconds(batch, costs), seconds)
        if not decoding:
            costs.observe(SIZE, batch.rows, seconds)
        scheduler.update(batch)
        for request in batch.requests:
            if request.stage is Stage.ENCODING:
                scheduler.finish(request)
                done[request] = now
    requests = [a.request for a in arrivals]
    return Run(
        latencies=np.array([done[a.request] - a.at for a in arrivals]),
        end=now,
        forecasts=np.array([forecasts[r] for r in requests]),
        waits=np.array([done[r] - admitted[r] for r in requests]),
        gain=gain.value,
    )
