"""On a GPU the loop waits for no call, and no prompt for those before it: else the device would run empty."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from serve_app.catalog.schedulers import SCHEDULERS
from serve_app.engine.model import model_runner
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.request import Request
from tests.engine import pretend, tiny
from tests.engine.pretend import Waits

A_LOOK = "_local_scalar_dense reads a value"


def normalised() -> Any:
    """An SDXL pipeline whose VAE says how its latents are distributed."""
    pipe = tiny.xl_pipeline()
    pipe.vae.register_to_config(latents_mean=[0.1] * 4, latents_std=[0.9] * 4)
    return pipe


def waits_of(pipe: Any, *, family: str = "sd", **params: Any) -> tuple[list[str], list[str]]:
    """What starting two requests waited for, and what their steps and decoding did; the pixels are checked
    against those of a runner whose device is the host."""
    expected = draw(ModelRunner(tiny.parts(pipe, family=family)), **params)[0]
    parts = tiny.parts(pipe, family=family)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if (network := getattr(pipe, name, None)) is not None:
            pretend.move(network)
    parts.device = pretend.DEVICE
    pixels, started, drawn = draw(ModelRunner(parts), **params)
    assert np.abs(pixels - expected).max() <= 1  # attention is another kernel there
    return started, drawn


def draw(runner: ModelRunner, **changes: Any) -> tuple[Any, list[str], list[str]]:
    params = tiny.params(**{"steps": 4, "n": 2, "guidance_rescale": 0.5, **changes})
    requests = [Request(params, i, 0, runner.guides(params)) for i in range(params.n)]
    start, denoise, decode = (
        getattr(ModelRunner, name).__wrapped__ for name in ("start", "denoise", "decode")
    )
    with torch.no_grad(), Waits() as starting:
        for request in requests:
            start(runner, request)
    with torch.no_grad(), Waits() as drawing:
        while not requests[0].denoised:
            assert not denoise(runner, requests)
            for request in requests:
                request.step += 1
        waits = decode(runner, requests)
    return np.stack([wait() for wait in waits]).astype(int), starting.found, drawing.found


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_no_call_waits_for_the_device(scheduler: str) -> None:
    assert waits_of(tiny.pipeline(), scheduler=scheduler) == ([], [])


@pytest.mark.parametrize(
    ("pipe", "family", "started"),
    [
        pytest.param(tiny.xl_pipeline, "sdxl", [], id="two text encoders, and sizes"),
        pytest.param(normalised, "sdxl", [], id="latents with a mean"),
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
    started, drawn = waits_of(tiny.pipeline(), scheduler=scheduler)
    assert f"a copy of (1, {tiny.TOKENS})" in started
    assert any(wait.startswith(kind) for wait in drawn)
