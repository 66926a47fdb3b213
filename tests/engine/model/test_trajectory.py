"""One request's steps: guidance, and a diffusers scheduler of its own."""

from __future__ import annotations

import pytest
import torch

from serve_app.engine.model.trajectory import Schedulers, guided, new_scheduler
from tests.engine import tiny
from tests.factories import params

NOISE = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1) * torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)


def test_guidance_moves_from_the_unconditional_row_towards_the_other() -> None:
    """u + scale x (c - u); one row alone is returned as it is."""
    result = guided(NOISE, params(guidance_scale=2.0))
    assert result.flatten().tolist() == [5.0, 10.0]
    assert guided(NOISE[1:], params(guidance_scale=2.0)) is not None
    assert torch.equal(guided(NOISE[1:], params(guidance_scale=2.0)), NOISE[1:])


@pytest.mark.parametrize(("phi", "deviation"), [(1.0, 3.0), (0.5, 4.0)])
def test_rescaling_brings_the_deviation_back_to_that_of_the_prompt(
    phi: float, deviation: float
) -> None:
    """Guidance made it 5 times that of [1, 2]; the conditional row has 3 times. phi mixes both."""
    result = guided(NOISE, params(guidance_scale=2.0, guidance_rescale=phi))
    unit = torch.tensor([1.0, 2.0]).std()
    assert float(result.std() / unit) == pytest.approx(deviation)


def test_a_name_means_the_same_for_every_checkpoint() -> None:
    """Whatever the checkpoint's own config says of the noise schedule; its betas are kept."""
    config = dict(tiny.scheduler().config) | {"use_karras_sigmas": True, "beta_end": 0.02}
    for name, karras in (("euler", False), ("euler_karras", True)):
        made = new_scheduler(config, name)
        assert made.config.use_karras_sigmas is karras
        assert made.config.beta_end == 0.02


def test_each_request_has_a_scheduler_with_a_history_of_its_own() -> None:
    """Copies are independent: a step of one leaves the other as it was."""
    schedulers = Schedulers(tiny.scheduler().config)
    one, other = schedulers.new("dpmpp_2m"), schedulers.new("dpmpp_2m")
    for made in (one, other):
        made.set_timesteps(4)
    one.step(torch.ones(1, 4, 2, 2), one.timesteps[0], torch.ones(1, 4, 2, 2))
    assert (one.lower_order_nums, other.lower_order_nums) == (1, 0)
    assert other.model_outputs == [None, None]
