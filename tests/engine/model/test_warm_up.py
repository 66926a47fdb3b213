"""Warm-up: what is measured, and what is made before the first job."""

from __future__ import annotations

import threading

import pytest
import torch

from serve_app.engine.model import warm_up as module
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.model.warm_up import compile_all, probe, probe_request, seconds_of, warm_up
from serve_app.engine.request import Stage
from tests.engine import tiny


@pytest.fixture(name="quick")
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm-up that stops early, perhaps after one row count."""
    monkeypatch.setattr(module, "WARM_UP_SECONDS", 0.05)


def test_costs_are_measured_at_the_native_size() -> None:
    """Several row counts and decoding, and previews are ready: no job pays for what happens only once."""
    runner = ModelRunner(tiny.shared_parts())
    costs = warm_up(runner, max_rows=2)
    assert set(costs.as_dict()["32x32"]) == {1, 2}
    assert costs.native == (tiny.SIZE, tiny.SIZE)
    assert costs.decode_seconds((32, 32)) > 0
    assert "preview_colours" in vars(runner)


@pytest.mark.usefixtures("quick")
def test_rows_beyond_the_limit_are_not_measured() -> None:
    """The limit is the spec's `max_rows`."""
    runner = ModelRunner(tiny.parts(tiny.pipeline(), max_rows=3))
    assert set(warm_up(runner).as_dict()["32x32"]) <= {1, 2, 3}


def test_a_probe_is_one_call_of_so_many_rows() -> None:
    """Without guidance, so each request is one row."""
    runner = ModelRunner(tiny.shared_parts())
    request = probe_request(runner)
    assert (request.rows, request.stage, request.size) == (1, Stage.WAITING, (32, 32))
    noise = probe(runner, 3)()
    assert [tuple(part.shape) for part in noise] == [(1, 4, 8, 8)] * 3


def test_the_first_call_is_not_counted() -> None:
    """It also pays for memory and code that later calls reuse."""
    calls: list[int] = []
    seconds = seconds_of(ModelRunner(tiny.shared_parts()), lambda: calls.append(len(calls)))
    assert calls == [0, 1]
    assert seconds >= 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("compiles", [True, "background"])
def test_a_model_is_compiled_as_its_spec_says(
    compiles: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before warm-up returns, or in a thread after it."""
    torch.compiler.reset()
    runner = ModelRunner(tiny.parts(tiny.pipeline(), compile=compiles))
    plain = runner.unet.compiled
    monkeypatch.setattr(type(runner.unet), "compiled", lambda *_: plain("eager"))
    go, threads = threading.Event(), list[threading.Thread]()
    beside = runner.unet.compile_beside

    def start(compile_unet: object) -> threading.Thread:
        def when_told(unet: object) -> None:
            assert go.wait(30)
            compile_all(runner, unet, 2)  # pyright: ignore[reportArgumentType]

        threads.append(beside(when_told))
        return threads[0]

    monkeypatch.setattr(runner.unet, "compile_beside", start)
    costs = warm_up(runner, max_rows=2)
    assert runner.unet.padded is (compiles is True)
    go.set()
    for thread in threads:
        thread.join()
    assert runner.unet.padded
    assert {rows for *_, rows in runner.unet.shapes} == {1, 2}
    assert len(threads) == (compiles == "background")
    assert costs.seconds((32, 32), 2) > 0
