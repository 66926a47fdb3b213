"""One UNet call over many rows: rows do not influence each other, eager or compiled."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from serve_app.engine.model.model_runner import ModelRunner, rows_of
from serve_app.engine.model.unet import SharedUnet
from serve_app.engine.model.warm_up import compile_all
from tests.engine import tiny
from tests.engine.model.harness import (
    IN_COMPANY,
    Recording,
    alone,
    difference,
    requests_of,
    run,
)
from tests.factories import params


def test_each_row_has_its_own_timestep_and_text() -> None:
    """The rows of a shared call predict what they predict in calls of their own."""
    runner = ModelRunner(tiny.shared_parts())
    requests = [
        requests_of(runner, params(seed=i, prompt=prompt, steps=3 + i), i)[0]
        for i, prompt in enumerate(("a red sword", "a blue shield"))
    ]
    for request in requests:
        runner.start(request)
    requests[1].step = 2
    with torch.inference_mode():
        shared = runner.unet(rows_of(requests))
        single = torch.cat([runner.unet(rows_of([request])) for request in requests])
    assert shared.shape == (4, 4, 8, 8)
    assert difference(shared, single) < 1e-5
    assert difference(shared[1], shared[3]) > 1e-3


def test_the_unet_compiles_as_one_graph_while_eager_code_serves() -> None:
    """The eager network serves until the compiled code is there; padding changes no result."""
    torch.compiler.reset()
    parts = tiny.parts(tiny.pipeline())
    wanted = [params(seed=i, steps=2, guidance_scale=1.0 + i % 2) for i in range(4)]
    expected = [alone(parts, p) for p in wanted]
    runner = Recording(parts)
    begun, go = threading.Event(), threading.Event()

    def compile_when_told(unet: SharedUnet) -> None:
        begun.set()
        assert go.wait(60)
        compile_all(runner, unet, 4)
        unet.shapes -= {shape for shape in unet.shapes if shape[2] == 3}  # three rows take four

    thread = runner.unet.compile_beside(compile_when_told, backend="eager")
    assert begun.wait(60)
    assert not runner.unet.padded
    go.set()
    thread.join()
    assert runner.unet.padded
    arrivals = [(0, requests_of(runner, p, i)[0]) for i, p in enumerate(wanted[:3])]
    run(runner, arrivals)
    for (_, request), image in zip(arrivals, expected, strict=False):
        assert difference(runner.drawn[request], image) <= IN_COMPANY


def test_a_size_without_compiled_code_is_drawn_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling it during a call would hold up every request."""
    torch.compiler.reset()
    parts = tiny.parts(tiny.pipeline())
    wanted = params(seed=3, steps=2, width=64, height=64)
    expected = alone(parts, wanted)
    runner = Recording(parts)
    made = runner.unet.compiled(backend="eager")
    with torch.inference_mode():
        compile_all(runner, made, 2)
    runner.unet.become(made)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("compiled code was called for a size it was not made for")

    monkeypatch.setattr(runner.unet, "fast", refuse)
    (request,) = requests_of(runner, wanted, 0)
    run(runner, [(0, request)])
    assert difference(runner.drawn[request], expected) == 0


def test_a_unet_that_cannot_be_compiled_stays_eager(caplog: pytest.LogCaptureFixture) -> None:
    """The log says so, and the service goes on as before."""
    runner = ModelRunner(tiny.shared_parts())

    def fail(unet: SharedUnet) -> None:
        raise RuntimeError("no compiler here")

    runner.unet.compile_beside(fail, backend="eager").join()
    assert not runner.unet.padded
    assert runner.unet.network is runner.pipe.unet
    assert "could not be compiled" in caplog.text
