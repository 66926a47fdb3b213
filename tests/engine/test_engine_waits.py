"""On a GPU nothing before or between two steps waits for the device: else it runs empty, or a text waits."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from serve_app.engine import model_runner
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.request import Request
from serve_app.schedulers import SCHEDULERS
from tests.engine import pretend, tiny
from tests.engine.pretend import Waits

A_LOOK = "_local_scalar_dense reads a value"


def waits_of(pipe: Any, *, family: str = "sd", **params: Any) -> tuple[list[str], list[str]]:
    """What starting two requests waited for, and what denoising them did; with their latents checked
    against those of a runner whose device is the host."""
    expected = latents_of(ModelRunner(tiny.parts(pipe, family=family)), **params)[0]
    parts = tiny.parts(pipe, family=family)
    for network in (pipe.unet, pipe.text_encoder, getattr(pipe, "text_encoder_2", None)):
        if network is not None:
            pretend.move(network)
    parts.device = pretend.DEVICE
    latents, started, denoised = latents_of(ModelRunner(parts), **params)
    for there, here in zip(latents, expected, strict=True):
        assert (there.here - here).abs().max() <= 1e-5 * here.abs().max()  # attention is composed
    return started, denoised


def latents_of(runner: ModelRunner, **changes: Any) -> tuple[list[Any], list[str], list[str]]:
    params = tiny.params(**{"steps": 4, "n": 2, "guidance_rescale": 0.5, **changes})
    requests = [Request(params, i, 0, runner.guides(params)) for i in range(params.n)]
    start: Any = ModelRunner.start.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
    denoise: Any = ModelRunner.denoise.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
    with torch.no_grad(), Waits() as starting:
        for request in requests:
            start(runner, request)
    with torch.no_grad(), Waits() as denoising:
        while not requests[0].denoised:
            assert not denoise(runner, requests)
            for request in requests:
                request.step += 1
    return [request.state.latents for request in requests], starting.found, denoising.found


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_no_step_waits_for_the_device(scheduler: str) -> None:
    assert waits_of(tiny.pipeline(), scheduler=scheduler) == ([], [])


@pytest.mark.parametrize(
    ("pipe", "family", "started"),
    [
        pytest.param(tiny.xl_pipeline, "sdxl", [], id="two text encoders, and sizes"),
        pytest.param(
            lambda: tiny.pipeline(time_cond_proj_dim=16), "sd", [], id="embedded guidance"
        ),
        # The starter's text encoder looks whether any token is masked; no checkpoint of CLIP's does.
        pytest.param(tiny.starter_like, "sd", [A_LOOK, A_LOOK], id="a BERT text encoder"),
    ],
)
def test_no_family_waits_for_the_device(pipe: Any, family: str, started: list[str]) -> None:
    assert waits_of(pipe(), family=family) == (started, [])


@pytest.mark.parametrize(
    ("scheduler", "kind"), [("euler_a", "a copy of"), ("unipc", "_linalg_check_errors")]
)
def test_what_diffusers_would_wait_for_is_noticed(
    monkeypatch: pytest.MonkeyPatch, scheduler: str, kind: str
) -> None:
    """As it is by itself: tokens and noise are copied, and a scheduler copies or asks at its steps."""
    monkeypatch.setattr(model_runner, "no_waits", lambda device: nullcontext())
    started, denoised = waits_of(tiny.pipeline(), scheduler=scheduler)
    assert f"a copy of (1, {tiny.TOKENS})" in started
    assert any(wait.startswith(kind) for wait in denoised)
