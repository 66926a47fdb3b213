"""Warm-up: what is measured, and what is made before the first job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from serve_app.engine.model import warm_up as module
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.model.unet import Rows
from serve_app.engine.model.warm_up import probe, probe_request, seconds_of, warm_up
from serve_app.engine.request import Request, Stage
from serve_app.errors import ModelError
from tests.engine import tiny


@pytest.fixture(name="quick")
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm-up that stops early, perhaps after one row count."""
    monkeypatch.setattr(module, "WARM_UP_SECONDS", 0.05)


def test_costs_are_measured_at_the_native_size() -> None:
    """Several row counts and decoding, and previews are ready: no job pays for what happens only once."""
    runner = ModelRunner(tiny.shared_parts())
    costs = warm_up(runner, max_rows=2).costs
    assert set(costs.as_dict()["32x32"]) == {1, 2}
    assert costs.native == (tiny.SIZE, tiny.SIZE)
    assert costs.decode_seconds((32, 32)) > 0
    assert "preview_colours" in vars(runner)


@pytest.mark.usefixtures("quick")
def test_rows_beyond_the_limit_are_not_measured() -> None:
    """The limit is the spec's `max_rows`."""
    runner = ModelRunner(tiny.parts(tiny.pipeline(), max_rows=3))
    assert set(warm_up(runner).costs.as_dict()["32x32"]) <= {1, 2, 3}


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
def test_a_model_is_compiled_before_its_first_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its spec says so: compiling beside the loop would slow it down tenfold."""
    torch.compiler.reset()
    for compiles in (False, True):
        runner = ModelRunner(tiny.parts(tiny.pipeline(), compile=compiles))
        rows = list[int]()
        compile_for = runner.unet.compile_for

        def compile_quickly(call: Rows, compile_for: Any = compile_for, rows: Any = rows) -> None:
            rows.append(len(call.samples))
            compile_for(call, "eager")

        monkeypatch.setattr(runner.unet, "compile_for", compile_quickly)
        assert warm_up(runner, max_rows=3).max_rows == 3
        assert rows == ([1, 2, 3] if compiles else [])
        assert runner.unet.sizes == ({(8, 8, tiny.TOKENS)} if compiles else set())


class Small(ModelRunner):
    """On a device with memory for so many rows in a call, and for so many images."""

    rows, pictures = 2, 1

    def predict(self, requests: Sequence[Request]) -> Sequence[torch.Tensor]:
        if len(requests) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().predict(requests)

    def images_of(
        self,
        latents: Sequence[torch.Tensor],
        decoder: str,
        tile: str = "none",
        *,
        in_parts: bool = False,
    ) -> torch.Tensor:
        if len(latents) > self.pictures:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().images_of(latents, decoder, tile, in_parts=in_parts)


def test_a_device_that_runs_out_of_memory_serves_what_fits() -> None:
    """The last row count that fitted is the largest call; the replica does not die."""
    runner = Small(tiny.shared_parts())
    measured = warm_up(runner)
    assert measured.max_rows == 2
    assert set(measured.costs.as_dict()["32x32"]) == {1, 2}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("limit", "what"), [("rows", "one row"), ("pictures", "decode one image")])
def test_a_device_that_fits_nothing_is_refused(
    limit: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do about it."""
    monkeypatch.setattr(Small, limit, 0)
    if limit == "pictures":  # the colours of previews are fitted to a smaller picture
        monkeypatch.setattr(Small, "preview_colours", None)
    with pytest.raises(ModelError, match=f"not enough memory .*{what}.* larger device"):
        warm_up(Small(tiny.shared_parts()))
