"""check_schedules(): does every scheduler that a model lists draw by the checkpoint's own noise schedule?

Knows diffusers schedulers; nothing of networks or requests. diffusers builds any scheduler from any config,
with defaults for what its class does not know: the pictures would be wrong, and nobody would say so.
"""

from __future__ import annotations

from typing import Any

import torch

from serve_app.catalog.families import FAMILIES
from serve_app.catalog.models import ModelSpec
from serve_app.catalog.schedulers import DIFFUSION, FLOW, SCHEDULERS
from serve_app.engine.model.trajectory import new_scheduler
from serve_app.errors import ModelError

PREDICTIONS = ("epsilon", "v_prediction", "sample")
SAME = 1e-6  # of alphas_cumprod; a schedule that ends in pure noise is 0 there, or 2^-24 in Euler's


def check_schedules(spec: ModelSpec, scheduler: Any) -> None:
    """`scheduler`: the checkpoint's own. Raises ModelError, which names what fits and what does not."""
    kind = FAMILIES[spec.family].kind
    if kind != "unet":
        if kind == "transformer":
            _check_flow(spec, scheduler)
        return
    kind, predicts = type(scheduler).__name__, scheduler.config.get("prediction_type", "epsilon")
    if getattr(scheduler, "alphas_cumprod", None) is None or predicts not in PREDICTIONS:
        raise ModelError(
            f"model {spec.name!r}: its scheduler is {kind}, predicting {predicts}. This service draws "
            f"checkpoints that were trained on noise of 1,000 steps and predict {', '.join(PREDICTIONS)}; "
            "flow matching and EDM are none of them"
        )
    if spec.draft.timesteps is not None:
        _check_timesteps(spec, spec.draft.timesteps, scheduler)
    wrong = {name: why for name in spec.schedulers if (why := misfit(spec, scheduler, name))}
    if wrong:
        fit = [name for name in DIFFUSION if not misfit(spec, scheduler, name)]
        told = "; ".join(f"{name} {why}" for name, why in wrong.items())
        raise ModelError(
            f"model {spec.name!r}: schedulers that do not fit the checkpoint's own: {told}. "
            f"Those that fit: {', '.join(fit) or 'none'}"
        )


def _check_flow(spec: ModelSpec, scheduler: Any) -> None:
    """A transformer's schedule depends on its checkpoint, so it draws by no other class than its own."""
    own = type(scheduler).__name__
    for name in spec.schedulers:
        if SCHEDULERS[name].class_name != own:
            fit = [other for other in FLOW if SCHEDULERS[other].class_name == own]
            raise ModelError(
                f"model {spec.name!r}: its checkpoint draws by a {own}, and {name} is another. Those that "
                f"fit: {', '.join(fit) or 'none'}"
            )


def _check_timesteps(spec: ModelSpec, timesteps: list[int], own: Any) -> None:
    """Raises ModelError unless the tier's scheduler draws by these very timesteps."""
    name = spec.draft.scheduler or spec.schedulers[0]
    made = new_scheduler(own.config, name)
    try:
        made.set_timesteps(timesteps=timesteps, device="cpu")
        drawn = [float(timestep) for timestep in made.timesteps]
    except (ValueError, RuntimeError, TypeError, IndexError) as error:
        drawn = [type(error).__name__]
    if drawn != timesteps:
        raise ModelError(
            f"model {spec.name!r}: draft: {name} does not draw by the timesteps {timesteps}, but {drawn}"
        )


def misfit(spec: ModelSpec, own: Any, name: str) -> str | None:
    """Why the scheduler of this name would not draw by the schedule of `own`, or None."""
    if name not in DIFFUSION:
        return "is for other families"
    limit = SCHEDULERS[name]
    steps = max(limit.min_steps, min(spec.steps, limit.max_steps or spec.steps))
    try:
        made = new_scheduler(own.config, name)
        made.set_timesteps(steps, device="cpu")
    except (ValueError, RuntimeError, NotImplementedError, TypeError, ImportError) as error:
        return f"cannot be made of its config ({type(error).__name__})"
    if made.config.get("prediction_type", "epsilon") != own.config.get(
        "prediction_type", "epsilon"
    ):
        return "knows no such prediction"
    # A class that does not know `rescale_betas_zero_snr` ignores it.
    if torch.allclose(made.alphas_cumprod, own.alphas_cumprod, rtol=0, atol=SAME):
        return None
    zero = own.config.get("rescale_betas_zero_snr", False)
    return "does not know a schedule that ends in pure noise" if zero else "draws by other betas"
