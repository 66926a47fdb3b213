"""Neither starting requests nor drawing them makes the host wait for a GPU, which would then run empty."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from serve_app.catalog.schedulers import DIFFUSION
from serve_app.engine.model import batching, model_runner
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.model.nonblocking import nonblocking
from serve_app.engine.model.trajectory import _round_as_on, new_scheduler
from serve_app.engine.request import Request
from tests.engine import pretend, tiny
from tests.engine.pretend import Waits
from tests.factories import params

A_READ = "_local_scalar_dense reads a value"


def normalised() -> Any:
    """An SDXL pipeline whose VAE says how its latents are distributed."""
    pipe = tiny.xl_pipeline()
    pipe.vae.register_to_config(latents_mean=[0.1] * 4, latents_std=[0.9] * 4)
    return pipe


def waits_of(pipe: Any, *, family: str = "sd", **changes: Any) -> tuple[list[str], list[str]]:
    """The waits while two requests started, and those while they were drawn, on a pretended GPU.

    The pixels are compared with those of a runner on the host.
    """
    expected = draw(ModelRunner(tiny.parts(pipe, family=family)), **changes)[0]
    parts = tiny.parts(pipe, family=family)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if (network := getattr(pipe, name, None)) is not None:
            pretend.move(network)
    parts.device = pretend.DEVICE
    pixels, started, drawn = draw(ModelRunner(parts), **changes)
    assert np.abs(pixels - expected).max() <= 1  # attention uses another kernel there
    return started, drawn


def draw(runner: ModelRunner, **changes: Any) -> tuple[Any, list[str], list[str]]:
    """Pixels of two requests, waits while they started, waits while they were drawn."""
    wanted = params(**{"steps": 4, "n": 2, "guidance_rescale": 0.5, **changes})
    requests = [Request(wanted, i, 0, runner.guides(wanted)) for i in range(wanted.n)]
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


@pytest.mark.parametrize("scheduler", DIFFUSION)
def test_no_call_waits_for_the_device(scheduler: str) -> None:
    """With any scheduler."""
    assert waits_of(tiny.pipeline(), scheduler=scheduler) == ([], [])


@pytest.mark.parametrize(
    ("pipe", "family", "started"),
    [
        pytest.param(tiny.xl_pipeline, "sdxl", [], id="two text encoders, and sizes"),
        pytest.param(normalised, "sdxl", [], id="latents with a mean"),
        pytest.param(
            lambda: tiny.pipeline(time_cond_proj_dim=16), "sd", [], id="embedded guidance"
        ),
        # BERT reads whether any token is masked; CLIP does not.
        pytest.param(tiny.starter_like, "sd", [A_READ, A_READ], id="a BERT text encoder"),
    ],
)
def test_no_family_waits_for_the_device(pipe: Any, family: str, started: list[str]) -> None:
    """With one known exception while a request starts."""
    assert waits_of(pipe(), family=family) == (started, [])


@pytest.mark.parametrize(("pipe", "family"), [(tiny.pipeline, "sd"), (tiny.xl_pipeline, "sdxl")])
def test_weighted_prompts_do_not_wait_for_the_device(pipe: Any, family: str) -> None:
    """Nor do long ones, nor another layer of the text encoder."""
    prompt = "a (red:1.3) sword BREAK icon"
    order = {"prompt": prompt, "prompt_syntax": "weighted", "clip_skip": 2}
    assert waits_of(pipe(), family=family, **order) == ([], [])


def test_tiles_do_not_wait_for_the_device() -> None:
    """Neither in the UNet nor in the decoder."""
    assert waits_of(tiny.pipeline(), tile="both") == ([], [])


@pytest.mark.parametrize(
    ("scheduler", "kind"), [("euler_a", "a copy of"), ("unipc", "_linalg_check_errors")]
)
def test_without_it_diffusers_waits(
    monkeypatch: pytest.MonkeyPatch, scheduler: str, kind: str
) -> None:
    """This shows that the pretended GPU finds waits: tokens, noise, and a scheduler's steps."""
    for module in (model_runner, batching):
        monkeypatch.setattr(module, "nonblocking", lambda device: nullcontext())
    started, drawn = waits_of(tiny.pipeline(), scheduler=scheduler)
    assert f"a copy of (1, {tiny.TOKENS})" in started
    assert any(wait.startswith(kind) for wait in drawn)


def test_lcm_multiplies_by_numbers_of_the_device() -> None:
    """As in the plain pipeline: torch rounds them to half precision there, and numbers of the host not."""
    pipe = tiny.pipeline()
    scheduler = new_scheduler(pipe.scheduler.config, "lcm")
    scheduler.set_timesteps(4, device="cpu")
    plain = [scheduler.get_scalings_for_boundary_condition_discrete(t) for t in scheduler.timesteps]
    _round_as_on(pretend.DEVICE, scheduler)
    with Waits() as waits, nonblocking(pretend.DEVICE):
        ours = [
            scheduler.get_scalings_for_boundary_condition_discrete(t) for t in scheduler.timesteps
        ]
    assert waits.found == []
    for pair, expected in zip(ours, plain, strict=True):
        assert [x.device for x in pair] == [pretend.DEVICE] * 2
        assert [x.here for x in pair] == list(expected)
