"""Scheduler names: each one is a diffusers class, with a config that the class knows."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import diffusers
import pytest
import torch

from serve_app.catalog.schedulers import DIFFUSION, FLOW, SCHEDULERS, SchedulerSpec
from tests.engine import tiny


def made(name: str) -> Any:
    """The diffusers object for a checkpoint's config."""
    spec = SCHEDULERS[name]
    return getattr(diffusers, spec.class_name).from_config(tiny.scheduler().config, **spec.config)


def denoised(name: str, steps: int) -> torch.Tensor:
    """Latents after all steps of a model that predicts the same noise every time."""
    scheduler = made(name)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=generator) * scheduler.init_noise_sigma
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    for timestep in scheduler.timesteps:
        scheduler.scale_model_input(latents, timestep)
        more = {"generator": generator} if takes_generator else {}
        latents = scheduler.step(noise, timestep, latents, **more, return_dict=False)[0]
    return latents


@pytest.mark.parametrize("name", [*DIFFUSION, *FLOW])
def test_the_class_knows_every_key_of_the_config(name: str) -> None:
    """diffusers ignores unknown keys, so a misspelled one would have no effect."""
    spec = SCHEDULERS[name]
    known = inspect.signature(getattr(diffusers, spec.class_name).__init__).parameters
    assert set(spec.config) <= set(known)


@pytest.mark.parametrize("name", DIFFUSION)
def test_the_fewest_and_the_most_steps_give_finite_latents(name: str) -> None:
    """The limits that an order is checked against are those that diffusers can do."""
    spec = SCHEDULERS[name]
    for steps in (spec.min_steps, spec.max_steps or 50):
        assert denoised(name, steps).isfinite().all()


@pytest.mark.parametrize("name", [n for n, spec in SCHEDULERS.items() if spec.max_steps])
def test_diffusers_refuses_more_than_the_most_steps(name: str) -> None:
    """Here an order is refused before it is accepted."""
    with pytest.raises(ValueError, match="steps"):
        made(name).set_timesteps((SCHEDULERS[name].max_steps or 0) + 1)


def test_no_two_names_are_called_the_same_in_a_file() -> None:
    """The `parameters` text of a PNG tells them apart."""

    def called(spec: SchedulerSpec) -> tuple[str, str | None]:
        return spec.sampler, spec.schedule

    assert len({called(spec) for spec in SCHEDULERS.values()}) == len(SCHEDULERS)


def test_names_can_be_read_without_torch() -> None:
    """The ingress and job tasks do."""
    code = "import sys, serve_app.catalog.schedulers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
