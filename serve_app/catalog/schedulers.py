"""SCHEDULERS: the scheduler names that an order may use, each as a diffusers class and changes to its config.

Plain data, without diffusers or torch, so that the ingress and job tasks can import it. The engine builds
`getattr(diffusers, class_name).from_config(checkpoint_config, **config)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SchedulerSpec:
    """`config` replaces values of the checkpoint's config, which keeps its betas and prediction type."""

    class_name: str
    sampler: str  # what AUTOMATIC1111 calls it in `Sampler:`
    schedule: str | None = None  # its `Schedule type:`; None: the sampler has only one
    config: Mapping[str, bool | int | str] = field(default_factory=dict[str, bool | int | str])
    min_steps: int = 1  # with fewer the image is noise or NaN
    max_steps: int | None = None  # it was distilled from so many; diffusers refuses more
    any_timesteps: bool = False  # draws by timesteps that are given, too


# A name must mean the same for every checkpoint, so values are given even where they are diffusers' default:
# a checkpoint that was saved with use_karras_sigmas must not turn `euler` into `euler_karras`.
_PLAIN = {"use_exponential_sigmas": False, "use_beta_sigmas": False}
_NO_FLOW = {"use_flow_sigmas": False}  # which multistep classes alone know
_UNIFORM = {**_PLAIN, "use_karras_sigmas": False}
_KARRAS = {**_PLAIN, "use_karras_sigmas": True}
# By default DDIM and DDPM clip to [-1, 1], which is right for pixels and destroys latents.
_LATENTS = {"clip_sample": False}
_DPMPP_2M = {**_NO_FLOW, "algorithm_type": "dpmsolver++", "solver_order": 2}
_DPMPP_2M_SDE = {**_NO_FLOW, "algorithm_type": "sde-dpmsolver++", "solver_order": 2}
_DPMPP_3M_SDE = {**_NO_FLOW, "algorithm_type": "sde-dpmsolver++", "solver_order": 3}

_TWO = (
    2  # with leading spacing, which most checkpoints use, a single step would start at timestep 0
)
_FOUR = 4  # ancestral steps subtract nearly equal squares: 3 steps of a cosine schedule gave NaN
_FIFTY = 50
_DISTILLED = {**_LATENTS, "original_inference_steps": _FIFTY}

DIFFUSION: Mapping[str, SchedulerSpec] = {
    "euler": SchedulerSpec(
        "EulerDiscreteScheduler", "Euler", "Uniform", _UNIFORM, _TWO, any_timesteps=True
    ),
    "euler_karras": SchedulerSpec("EulerDiscreteScheduler", "Euler", "Karras", _KARRAS, _TWO),
    # Trailing spacing starts at the last training step, as distilled (turbo) models were trained.
    "euler_trailing": SchedulerSpec(
        "EulerDiscreteScheduler",
        "Euler",
        "SGM Uniform",
        {**_UNIFORM, "timestep_spacing": "trailing"},
        any_timesteps=True,
    ),
    "euler_a": SchedulerSpec(
        "EulerAncestralDiscreteScheduler", "Euler a", "Uniform", min_steps=_FOUR
    ),
    "euler_a_trailing": SchedulerSpec(
        "EulerAncestralDiscreteScheduler",
        "Euler a",
        "SGM Uniform",
        {"timestep_spacing": "trailing"},
    ),
    "dpmpp_2m": SchedulerSpec(
        "DPMSolverMultistepScheduler", "DPM++ 2M", "Uniform", {**_DPMPP_2M, **_UNIFORM}
    ),
    "dpmpp_2m_karras": SchedulerSpec(
        "DPMSolverMultistepScheduler", "DPM++ 2M", "Karras", {**_DPMPP_2M, **_KARRAS}
    ),
    "dpmpp_2m_sde": SchedulerSpec(
        "DPMSolverMultistepScheduler", "DPM++ 2M SDE", "Uniform", {**_DPMPP_2M_SDE, **_UNIFORM}
    ),
    "dpmpp_2m_sde_karras": SchedulerSpec(
        "DPMSolverMultistepScheduler", "DPM++ 2M SDE", "Karras", {**_DPMPP_2M_SDE, **_KARRAS}
    ),
    "dpmpp_3m_sde_karras": SchedulerSpec(
        "DPMSolverMultistepScheduler", "DPM++ 3M SDE", "Karras", {**_DPMPP_3M_SDE, **_KARRAS}
    ),
    "dpm2": SchedulerSpec("KDPM2DiscreteScheduler", "DPM2", "Uniform", _UNIFORM, _TWO),
    "dpm2_a": SchedulerSpec(
        "KDPM2AncestralDiscreteScheduler", "DPM2 a", "Uniform", _UNIFORM, _FOUR
    ),
    "heun": SchedulerSpec(
        "HeunDiscreteScheduler", "Heun", "Uniform", {**_UNIFORM, **_LATENTS}, _TWO
    ),
    "unipc": SchedulerSpec("UniPCMultistepScheduler", "UniPC", None, {**_UNIFORM, **_NO_FLOW}),
    "deis": SchedulerSpec("DEISMultistepScheduler", "DEIS", None, {**_UNIFORM, **_NO_FLOW}),
    "ddim": SchedulerSpec("DDIMScheduler", "DDIM", None, _LATENTS, _TWO),
    "ddpm": SchedulerSpec("DDPMScheduler", "DDPM", None, _LATENTS, _TWO, any_timesteps=True),
    # Without its Runge-Kutta start-up steps PNDM is PLMS, which checkpoints were published with.
    "pndm": SchedulerSpec("PNDMScheduler", "PLMS", None, {"skip_prk_steps": True}, _TWO),
    "lcm": SchedulerSpec(
        "LCMScheduler", "LCM", None, _DISTILLED, max_steps=_FIFTY, any_timesteps=True
    ),
    "tcd": SchedulerSpec(
        "TCDScheduler", "TCD", None, _DISTILLED, max_steps=_FIFTY, any_timesteps=True
    ),
}
"""Of UNets, which were trained on noise of 1,000 steps."""

FLOW: Mapping[str, SchedulerSpec] = {
    "flow_euler": SchedulerSpec("FlowMatchEulerDiscreteScheduler", "Euler", "Flow", _UNIFORM),
    "flow_dpmpp_2m": SchedulerSpec(
        "DPMSolverMultistepScheduler",
        "DPM++ 2M",
        "Flow",
        {**_DPMPP_2M, **_UNIFORM, "use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    ),
}
"""Of transformers, which were trained by flow matching (arXiv:2210.02747)."""

OWN: Mapping[str, SchedulerSpec] = {"own": SchedulerSpec("", "Own")}
"""Of any other pipeline: what its checkpoint brings, as it is."""

SCHEDULERS: Mapping[str, SchedulerSpec] = {**DIFFUSION, **FLOW, **OWN}
