"""A checkpoint whose noise schedule a listed scheduler would not draw by is refused before the first job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from serve_app.catalog.schedulers import DIFFUSION
from serve_app.engine.model.loading import load
from serve_app.engine.model.schedules import check_schedules, misfit
from serve_app.engine.model.trajectory import new_scheduler
from serve_app.errors import ModelError
from tests.engine import tiny

BETAS: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
ZERO_SNR: dict[str, Any] = {**BETAS, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
IGNORE_ZERO_SNR = ["deis", "dpm2", "dpm2_a", "heun", "pndm"]


def test_all_schedulers_fit_the_usual_schedule() -> None:
    """That of Stable Diffusion, with either prediction."""
    for predicts in ("epsilon", "v_prediction"):
        own = diffusers.DDIMScheduler(**BETAS, prediction_type=predicts)
        check_schedules(tiny.spec(), own)


def test_a_schedule_that_ends_in_pure_noise_refuses_those_that_would_drop_it() -> None:
    """They would draw by other betas: the refusal names them, and those that fit."""
    own = diffusers.DDIMScheduler(**ZERO_SNR, prediction_type="v_prediction")
    assert sorted(n for n in DIFFUSION if misfit(tiny.spec(), own, n)) == IGNORE_ZERO_SNR
    with pytest.raises(ModelError) as caught:
        check_schedules(tiny.spec(), own)
    for name in IGNORE_ZERO_SNR:
        assert f"{name} does not know a schedule that ends in pure noise" in caught.value.detail
    assert "Those that fit: euler, " in caught.value.detail
    check_schedules(tiny.spec(schedulers=["euler", "dpmpp_2m", "ddim"]), own)


@pytest.mark.parametrize(
    "own",
    [
        diffusers.EDMEulerScheduler(),
        diffusers.EDMDPMSolverMultistepScheduler(),
        diffusers.FlowMatchEulerDiscreteScheduler(),
        diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, steps_offset=1
        ),
    ],
    ids=lambda own: type(own).__name__,
)
def test_other_kinds_of_training_are_refused(own: Any, tmp_path: Path) -> None:
    """EDM (Playground 2.5, CosXL) and flow matching load as epsilon with default betas: wrong pixels."""
    pipe = tiny.pipeline()
    pipe.scheduler = own
    tiny.save(pipe, tmp_path / "tiny")
    with pytest.raises(ModelError, match=f"its scheduler is {type(own).__name__}"):
        load(tiny.spec(), tmp_path, device="cpu")


@pytest.mark.parametrize("flag", ["use_exponential_sigmas", "use_beta_sigmas"])
def test_a_scheduler_means_the_same_for_every_checkpoint(flag: str) -> None:
    """A checkpoint saved with other sigmas turned `euler` into another, and `euler_karras` raised."""
    usual = dict(diffusers.EulerDiscreteScheduler(**BETAS).config)
    for name in DIFFUSION:
        sigmas: list[torch.Tensor] = []
        for config in (usual, usual | {flag: True}):
            made = new_scheduler(config, name)
            made.set_timesteps(5)
            sigmas.append(torch.as_tensor(getattr(made, "sigmas", made.timesteps)))
        assert torch.equal(*sigmas), name


def test_timesteps_of_a_tier_are_those_that_its_scheduler_draws_by() -> None:
    """One that takes them by its name, and then draws by others, is refused with both."""
    own = diffusers.DDIMScheduler(**BETAS)
    for name in (name for name, known in DIFFUSION.items() if known.any_timesteps):
        tier = {"scheduler": name, "timesteps": [799, 399]}
        check_schedules(tiny.spec(schedulers=[name], draft=tier), own)
    karras = {"scheduler": "euler_karras", "timesteps": [799, 399]}
    with pytest.raises(
        ModelError, match=r"euler_karras does not draw by the timesteps \[799, 399\]"
    ):
        check_schedules(tiny.spec(schedulers=["euler_karras"], draft=karras), own)
