"""One UNet call over many rows: rows do not influence each other, eager or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from serve_app.engine.model.model_runner import ModelRunner, rows_of
from serve_app.engine.model.warm_up import probe_request
from tests.engine import tiny
from tests.engine.model.harness import (
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


class Graphs:
    """A compiler that counts its graphs and runs them as they are."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.made += 1
        return graph.forward


@pytest.mark.parametrize("pipe", [tiny.pipeline, tiny.xl_pipeline], ids=["sd", "sdxl"])
def test_one_graph_serves_every_number_of_rows(pipe: Callable[[], Any]) -> None:
    """And another one a single row: a graph per row count would be traced for minutes each."""
    torch.compiler.reset()
    family = "sdxl" if pipe is tiny.xl_pipeline else "sd"
    runner = ModelRunner(tiny.parts(pipe(), family=family))
    request, graphs = probe_request(runner), Graphs()
    with torch.inference_mode():
        for rows in (1, 2):
            runner.unet.compile_for(rows_of([request] * rows), graphs)
        assert graphs.made == 2
        for rows in (1, 2, 3, 5, 6, 7):
            fast = runner.unet(rows_of([request] * rows))
            assert difference(fast, runner.unet(rows_of([request] * rows), eager=True)) < 1e-5
    assert graphs.made == 2


def test_a_size_without_compiled_code_is_drawn_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling it during a call would hold up every request. So is an order that says `strict`."""
    torch.compiler.reset()
    parts = tiny.parts(tiny.pipeline())
    orders = [
        params(seed=3, steps=2, width=64, height=64),
        params(seed=3, steps=2, reproducible="strict"),
    ]
    expected = [alone(parts, wanted) for wanted in orders]
    runner = Recording(parts)
    with torch.inference_mode():
        runner.unet.compile_for(rows_of([probe_request(runner)]), "eager")

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("compiled code was called for what it was not made for")

    monkeypatch.setattr(runner.unet, "_fast", refuse)
    for i, wanted in enumerate(orders):
        (request,) = requests_of(runner, wanted, i)
        run(runner, [(0, request)])
        assert torch.equal(runner.drawn[request], expected[i])


def test_a_strict_order_is_the_same_before_and_after_the_unet_was_compiled() -> None:
    """Compiled code rounds differently, so it must never draw one."""
    torch.compiler.reset()
    parts = tiny.parts(tiny.pipeline(), compile=True)
    strict = params(steps=3, reproducible="strict")
    before = alone(parts, strict)
    runner = Recording(parts)
    with torch.inference_mode():
        for rows in (1, 2):
            runner.unet.compile_for(rows_of([probe_request(runner)] * rows), Slightly())
    other, again = (requests_of(runner, p, i)[0] for i, p in enumerate((params(steps=3), strict)))
    run(runner, [(0, other), (0, again)])
    assert torch.equal(runner.drawn[again], before)
    assert not torch.equal(runner.drawn[other], before)


class Slightly:
    """A compiler whose code rounds differently."""

    def __call__(self, graph: Any, inputs: Any) -> Any:
        def call(*args: Any) -> Any:
            return tuple(out * (1 + 1e-6) for out in graph.forward(*args))

        return call
