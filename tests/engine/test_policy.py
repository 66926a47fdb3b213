"""What sharing and deadlines gain over one request at a time, on a virtual clock; they never lose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serve_app.priorities import PATIENCE_OF
from tests.engine.simulation import Device, engine, one_at_a_time, trace

COUNT = 150
TINY_UNET = Device(a=0.6)
SMALL_UNET = Device(a=0.15)
NOTHING_TO_GAIN = Device(a=0.0)
LARGE_GPU = Device(a=4.0)


def gains(device: Device, load: float, *, mixed: bool, seeds: int = 3) -> dict[str, float]:
    """How many times better than one at a time, over the requests of all seeds."""
    plain: list[Any] = []
    ours: list[Any] = []
    short: list[bool] = []
    spans = np.zeros(2)
    for seed in range(seeds):
        arrivals = trace(device, load, COUNT, seed, mixed=mixed)
        a, a_end = one_at_a_time(device, arrivals)
        d = engine(device, arrivals)
        plain.append(a)
        ours.append(d.latencies)
        short += [arrival.short for arrival in arrivals]
        spans += (a_end, d.end)
    a, d, shorts = np.concatenate(plain), np.concatenate(ours), np.array(short)
    found = {
        "p50": np.median(a) / np.median(d),
        "mean": a.mean() / d.mean(),
        "p95": np.percentile(a, 95) / np.percentile(d, 95),
        "throughput": spans[0] / spans[1],
    }
    if mixed:
        found["short p95"] = np.percentile(a[shorts], 95) / np.percentile(d[shorts], 95)
        found["long p50"] = np.median(a[~shorts]) / np.median(d[~shorts])
    return {name: float(value) for name, value in found.items()}


@pytest.mark.parametrize("device", [SMALL_UNET, TINY_UNET, LARGE_GPU], ids=["small", "tiny", "gpu"])
def test_mixed_traffic_at_moderate_load(device: Device) -> None:
    """Short requests do not queue behind long ones, and the long ones are hardly slower."""
    found = gains(device, 0.7, mixed=True)
    assert found["p50"] >= 4
    assert found["short p95"] >= 8
    assert found["long p50"] >= 0.9


@pytest.mark.parametrize("device", [SMALL_UNET, TINY_UNET, LARGE_GPU], ids=["small", "tiny", "gpu"])
def test_mixed_traffic_at_overload(device: Device) -> None:
    """At more than one at a time can serve, the median stays low and no request starves."""
    found = gains(device, 1.1, mixed=True)
    assert found["p50"] >= 10
    assert found["short p95"] >= 8
    assert found["p95"] >= 0.97


@pytest.mark.parametrize("load", [0.5, 0.7, 0.9, 1.1])
@pytest.mark.parametrize("a", [0.0, 0.15, 0.3, 0.6, 1.5, 4.0])
def test_uniform_traffic_is_never_slower_than_one_at_a_time(a: float, load: float) -> None:
    """Equal requests gain by sharing, and lose nothing where sharing saves nothing.

    Two losses are accepted: at light load sharing may raise the median by up to an eighth while it halves
    the tail; and where sharing saves nothing, trying it again now and then costs the tail a few percent.
    """
    found = gains(Device(a), load, mixed=False, seeds=1)
    assert found["mean"] >= 0.97
    assert found["p95"] >= 0.92
    assert found["throughput"] >= 0.97
    assert found["p50"] >= (0.97 if load > 0.5 else 0.85)


@pytest.mark.parametrize("device", [SMALL_UNET, TINY_UNET, LARGE_GPU], ids=["small", "tiny", "gpu"])
def test_priorities_under_overload(device: Device) -> None:
    """Of equal requests those of high priority overtake the others, those of low priority yield, all end."""
    priorities = np.array(["high", "normal", "normal", "normal", "low"] * (COUNT // 5))
    arrivals = [
        replace(arrival, patience=PATIENCE_OF[priority])
        for arrival, priority in zip(
            trace(device, 1.5, COUNT, 0, mixed=False), priorities, strict=True
        )
    ]
    latencies = engine(device, arrivals).latencies
    high, normal, low = (
        float(np.median(latencies[priorities == name])) for name in ("high", "normal", "low")
    )
    assert high < 0.8 * normal
    assert normal < 0.6 * low
