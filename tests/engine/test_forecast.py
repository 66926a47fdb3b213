"""The forecast: its arithmetic, and its errors on a virtual clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serve_app.engine.costs import CostTable
from serve_app.engine.forecast import Forecast, Gain, unshared_seconds
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Batch, Scheduler
from tests.engine.simulation import SIZE, Arrival, Device, engine, image, trace

SMALL_UNET = Device(a=0.15)
TINY_UNET = Device(a=0.6)
LARGE_GPU = Device(a=4.0)
COSTS = CostTable(SIZE, {1: 1.0, 2: 1.5, 4: 2.0}, decode=0.5)


def plain(number: int, deadline: float, steps: int = 4, index: int = 0) -> Request:
    """`steps` calls of a second each, and half a second to decode."""
    request = image(number, steps, 1.0, index)
    request.deadline = deadline
    return request


def forecast(requests: list[Request], gain: float = 1.0) -> Forecast:
    return Forecast(requests, COSTS, gain)


# ---- arithmetic ----


def test_what_is_due_before_or_with_a_drawing_counts_and_nothing_later() -> None:
    """Each drawing waits for all work up to its own deadline; equal deadlines wait for each other."""
    early, twin, other, late = plain(1, 5.0), plain(2, 9.0), plain(3, 9.0), plain(4, 20.0)
    company = forecast([late, twin, early, other])
    assert company.seconds([early]) == 4.5
    assert company.seconds([twin]) == company.seconds([other]) == 3 * 4.5
    assert company.seconds([late]) == 4 * 4.5


def test_a_drawing_ends_with_its_last_image() -> None:
    """Its latest deadline counts; images that are decoded do not count any more."""
    first, second, between = plain(1, 5.0), plain(1, 10.0, index=1), plain(2, 7.0)
    assert forecast([first, second, between]).seconds([first, second]) == 3 * 4.5
    first.step, first.stage = 4, Stage.DECODING
    assert forecast([first, second, between]).seconds([first, second]) == 0.5 + 2 * 4.5
    first.stage = Stage.ENCODING
    assert forecast([first, second, between]).seconds([first, second]) == 2 * 4.5
    second.stage = Stage.ENCODING
    assert forecast([first, second, between]).seconds([first, second]) == 0.0


def test_the_line_moves_as_fast_as_the_device_but_no_drawing_ends_before_its_own_work() -> None:
    """A gain shortens the wait for others, down to the time the drawing takes if nothing else runs."""
    early, late = plain(1, 5.0), plain(2, 9.0)
    company = forecast([early, late], gain=1.5)
    assert company.seconds([early]) == 4.5
    assert company.seconds([late]) == pytest.approx(9.0 / 1.5)
    assert company.seconds([early, late], share=0.5) == pytest.approx(9.0 / 1.5)
    assert forecast([early, late], gain=10.0).seconds([early, late], share=0.5) == 4.5


def test_a_gain_starts_at_one_and_weighs_calls_by_their_seconds() -> None:
    """Long calls that gain nothing weigh more than as many short ones that gain much."""
    gain = Gain()
    assert gain.value == 1.0
    gain.observe(2.0, 0.001)
    assert gain.value < 1.1
    for _ in range(500):
        gain.observe(4.0, 4.0)
        gain.observe(2.0, 1.0)
    assert gain.value == pytest.approx(6 / 5, rel=0.02)


def test_what_a_shared_call_replaces_is_one_call_for_each() -> None:
    """Guided and plain requests in one denoising call, and a shared decode."""
    guided = image(1, 4, 5.0)
    assert unshared_seconds(Batch(Stage.DENOISING, [guided, plain(2, 0.0)]), COSTS) == 2.5
    assert unshared_seconds(Batch(Stage.DECODING, [guided, plain(2, 0.0)]), COSTS) == 1.0


@pytest.mark.parametrize("device", [SMALL_UNET, TINY_UNET, LARGE_GPU], ids=["small", "tiny", "gpu"])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_a_drawing_alone_takes_what_was_predicted(device: Device, images: int) -> None:
    """However many of its images share a call."""
    requests = [image(1, 20, 5.0, index) for index in range(images)]
    predicted = Scheduler(device.costs()).alone_seconds(requests)
    run = engine(device, [Arrival(0.0, False, request) for request in requests])
    # Images that are not at the same step share a little less than predicted.
    assert run.end == pytest.approx(predicted, rel=0.05)


# ---- on a virtual clock ----


def errors(said: Any, true: Any) -> dict[str, float]:
    relative = np.abs(said - true) / true
    return {"median": float(np.median(relative)), "p95": float(np.percentile(relative, 95))}


@pytest.mark.parametrize("device", [SMALL_UNET, TINY_UNET, LARGE_GPU], ids=["small", "tiny", "gpu"])
def test_the_forecast_at_admission_in_mixed_traffic(device: Device) -> None:
    """Load 0.7, seven short requests to three long ones, which are the ones that wait.

    Without the other requests the median error of long ones would be a third; if all the others counted,
    and not only those due earlier, that of short ones would be tenfold.
    """
    said: list[Any] = []
    true: list[Any] = []
    solo: list[float] = []
    long: list[bool] = []
    for seed in range(4):
        arrivals = trace(device, 0.7, 150, seed, mixed=True)
        solo += [device.costs().solo_seconds(a.request) for a in arrivals]
        long += [not a.short for a in arrivals]
        run = engine(device, arrivals)
        said.append(run.forecasts)
        true.append(run.waits)
    forecasts, waits, which = np.concatenate(said), np.concatenate(true), np.array(long)
    overall, waiting = errors(forecasts, waits), errors(forecasts[which], waits[which])
    unaware = errors(np.array(solo)[which], waits[which])
    print(f"all {overall}, long {waiting}, long without company {unaware}")
    assert overall["median"] < 0.08
    assert overall["p95"] < 0.65
    assert waiting["median"] < 0.2 < unaware["median"]
    assert waiting["p95"] < 0.45 < unaware["p95"]


def test_the_forecast_knows_what_sharing_is_worth() -> None:
    """At twice the rate that one at a time can serve: without the gain it would be wrong by half."""
    run = engine(LARGE_GPU, trace(LARGE_GPU, 2.0, 300, 0, mixed=False))
    found = errors(run.forecasts, run.waits)
    print(f"gain {run.gain:.2f}, {found}")
    assert run.gain > 1.5
    assert found["median"] < 0.3
    assert engine(Device(a=0.0), trace(Device(a=0.0), 0.7, 50, 0, mixed=False)).gain == (
        pytest.approx(1.0, abs=0.01)
    )
