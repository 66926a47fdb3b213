"""Trajectory: the tensors of one request that has started, and how one evaluation changes them.

Knows that request's own diffusers scheduler; nothing of other requests or of calls.
"""

from __future__ import annotations

import inspect
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import LCMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from serve_app.catalog.schedulers import SCHEDULERS
from serve_app.engine.model.controlnet import Hint, hint_image
from serve_app.engine.model.encoding import PictureEncoder
from serve_app.engine.model.families import Conditions, Family, Text
from serve_app.engine.model.loras import Added
from serve_app.engine.model.references import Look, Reference
from serve_app.engine.model.unet import Rows
from serve_app.engine.request import Request
from serve_app.params import GenerationParams


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """The picture that is kept where the mask is 0: put back after each step, with that step's noise."""

    latents: Tensor  # of the picture, without noise
    noise: Tensor
    mask: Tensor  # (1, 1, h, w); 1: drawn anew


@dataclass(slots=True)
class Trajectory:
    """Its diffusers scheduler object belongs to it alone, because multistep schedulers keep a history."""

    latents: Tensor  # (1, channels, height / f, width / f)
    scheduler: Any  # of diffusers
    timesteps: list[Tensor]  # 0-d each
    step_arguments: dict[str, Any]  # further arguments of `scheduler.step`
    positive: Text
    negative: Text | None
    conditions: list[Conditions]  # per row: [negative, positive], or [positive]
    guidance_embedding: Tensor | None  # (1, time_cond_proj_dim)
    kept: KeptPicture | None = None
    beside: Tensor | None = (
        None  # (1, k, h, w): what a UNet for inpainting reads beside the latents
    )
    hints: tuple[Hint, ...] = ()  # for ControlNets
    look: Look | None = None  # for the IP-Adapter
    decoded_in_parts: bool = False
    loras: Added = ()

    @classmethod
    def begin(
        cls,
        request: Request,
        pipe: Any,
        family: Family,
        schedulers: Schedulers,
        encoder: PictureEncoder,
        device: torch.device,
        loras: Added = (),
        reference: Reference | None = None,
    ) -> Trajectory:
        """Encode the prompts and the picture, draw the noise, set the timesteps, as the diffusers pipeline
        does."""
        params = request.params
        positive = family.positive(params)
        negative = family.negative(params) if request.guided else None
        if negative is not None:
            windows = max(positive.windows, negative.windows)
            positive, negative = (family.widened(t, windows, params) for t in (positive, negative))
        scheduler = schedulers.new(params.scheduler)
        # On the host: many schedulers read timesteps at each step, and from a device that waits for it.
        if params.timesteps:
            scheduler.set_timesteps(timesteps=list(params.timesteps), device="cpu")
        else:
            scheduler.set_timesteps(params.steps, device="cpu")
        # Of second-order schedulers, each step has two.
        skipped = (params.steps - params.drawn_steps) * scheduler.order
        timesteps = list(scheduler.timesteps)[skipped:]
        if hasattr(scheduler, "set_begin_index"):
            # Without this the first step searches for its index, which waits for the device.
            scheduler.set_begin_index(skipped)
        if isinstance(scheduler, LCMScheduler):
            _round_as_on(device, scheduler)
        generator = torch.Generator("cpu").manual_seed(request.seed)
        latents, kept, beside = _start(
            request, pipe, scheduler, timesteps, encoder, generator, positive.hidden.dtype, device
        )
        texts = [negative, positive] if negative is not None else [positive]
        return cls(
            latents=latents,
            scheduler=scheduler,
            timesteps=timesteps,
            step_arguments=step_arguments(scheduler, generator),
            positive=positive,
            negative=negative,
            conditions=[family.conditions(params, text) for text in texts],
            loras=loras,
            kept=kept,
            hints=_hints(request, latents.dtype, device),
            look=_look(request, pipe, reference, device),
            beside=beside,
            guidance_embedding=_guidance_embedding(params, pipe, latents.dtype, device),
        )

    def add_rows(self, rows: Rows, step: int, count: int) -> None:
        """Append the inputs of evaluation `step`: 1 row, or 2 with guidance, the unconditional one first."""
        timestep = self.timesteps[step]
        sample = self.scheduler.scale_model_input(self.latents, timestep)
        if self.beside is not None:
            sample = torch.cat([sample, self.beside], dim=1)
        texts = [self.negative, self.positive] if count == 2 else [self.positive]
        rows.samples += [sample] * count
        rows.timesteps += [timestep] * count
        rows.texts += [text.hidden for text in texts if text is not None]
        rows.conditions += self.conditions[-count:]
        shown = [(hint, hint.strength(step, len(self.timesteps))) for hint in self.hints]
        rows.shown += [shown] * count
        rows.looks += [None] * count if self.look is None else self.look.rows(count)
        if self.guidance_embedding is not None:
            rows.guidance += [self.guidance_embedding] * count

    def advance(self, noise: Tensor, step: int, params: GenerationParams) -> None:
        """One step of the diffusers scheduler. `noise`: predicted for its rows, (1 or 2, channels, h, w)."""
        moved = self.scheduler.step(
            guided(noise, params),
            self.timesteps[step],
            self.latents,
            **self.step_arguments,
            return_dict=False,
        )[0]
        moved = moved.to(self.latents.dtype)
        if self.kept is not None:
            original = self.kept.latents
            if step + 1 < len(self.timesteps):
                following = self.timesteps[step + 1].reshape(1)
                original = self.scheduler.add_noise(original, self.kept.noise, following)
            moved = (1 - self.kept.mask) * original + self.kept.mask * moved
        self.latents = moved


def _start(
    request: Request,
    pipe: Any,
    scheduler: Any,
    timesteps: list[Tensor],
    encoder: PictureEncoder,
    generator: torch.Generator,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, KeptPicture | None, Tensor | None]:
    """The first latents, what is kept of a picture, and what a UNet for inpainting reads.

    Random numbers are drawn in the order of StableDiffusionImg2ImgPipeline, or with a mask, or for such a
    UNet, of StableDiffusionInpaintPipeline: the picture's posterior, the noise, the masked picture's.
    """
    params, source = request.params, request.source
    picture, mask = (None, None) if source is None else (source.picture, source.mask)
    key = params.init_image and params.init_image.sha256
    how: dict[str, Any] = {"size": request.size, "tile": params.tile}
    reads_mask = pipe.unet.config.in_channels != pipe.vae.config.latent_channels
    inpaints = mask is not None or reads_mask
    pure = picture is None or (inpaints and params.strength == 1)
    original: Tensor | None = None
    if picture is not None and not (pure and reads_mask):
        original = encoder.latents(picture, key, generator, dtype, **how)
        if (
            inpaints
        ):  # strides decide which kernel a convolution takes, and that pipeline changes them
            original = original.contiguous()
    factor, channels = pipe.vae_scale_factor, pipe.vae.config.latent_channels
    noise = randn_tensor(
        (1, channels, params.height // factor, params.width // factor),
        generator=generator,
        device=torch.device("cpu"),
        dtype=dtype,
    ).to(device)
    if pure or original is None:
        latents = noise * scheduler.init_noise_sigma
    else:
        latents = scheduler.add_noise(original, noise, timesteps[0].reshape(1))
    if not inpaints:
        return latents, None, None
    marked = encoder.mask(mask, noise)
    if reads_mask:
        hidden = np.ones((params.height, params.width), bool) if mask is None else mask
        masked_key = key, params.mask_image and params.mask_image.sha256
        masked = encoder.latents(picture, masked_key, generator, dtype, without=hidden, **how)
        return latents, None, torch.cat([marked, masked], dim=1)
    assert original is not None
    encoder.skip_sample(original, generator)
    return latents, KeptPicture(original, noise, marked), None


def _hints(request: Request, dtype: torch.dtype, device: torch.device) -> tuple[Hint, ...]:
    uses = request.params.control
    if not uses:
        return ()
    assert request.source is not None
    return tuple(
        Hint(use.type, hint_image(pixels, device, dtype), use.weight, use.start, use.end)
        for use, pixels in zip(uses, request.source.controls, strict=True)
    )


def _look(
    request: Request, pipe: Any, reference: Reference | None, device: torch.device
) -> Look | None:
    use, source = request.params.reference, request.source
    if use is None:
        return None
    assert reference is not None
    assert source is not None
    assert source.reference is not None
    return reference.look(pipe, source.reference, use.image.sha256, use.weight, device)


class Schedulers:
    """Makes one diffusers scheduler per request, as copies: to construct one of KDPM2's takes 0.2 s."""

    def __init__(self, config: Any) -> None:
        self._config = config
        self._made: dict[str, Any] = {}

    def new(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = new_scheduler(self._config, name)
        return deepcopy(self._made[name])


def new_scheduler(config: Any, name: str) -> Any:
    """The diffusers scheduler of this name, configured as the checkpoint's with the name's changes."""
    spec = SCHEDULERS[name]
    return getattr(diffusers, spec.class_name).from_config(config, **spec.config)


def guided(noise: Tensor, params: GenerationParams) -> Tensor:
    """Classifier-free guidance (arXiv:2207.12598) with rescaling (arXiv:2305.08891, section 3.4).

    `noise`: (2, channels, h, w), the unconditional row first, or (1, channels, h, w): returned as it is.
    """
    if len(noise) == 1:
        return noise
    unconditional, conditional = noise.chunk(2)
    # A Python float multiplies in full precision; a half-precision tensor of scales would not.
    result = unconditional + params.guidance_scale * (conditional - unconditional)
    phi = params.guidance_rescale
    if phi == 0:
        return result
    axes = tuple(range(1, noise.ndim))
    ratio = conditional.std(dim=axes, keepdim=True) / result.std(dim=axes, keepdim=True)
    return phi * (result * ratio) + (1 - phi) * result


def _round_as_on(device: torch.device, scheduler: Any) -> None:
    """Let an LCM scheduler multiply the sample by numbers of the device, as in the plain pipeline.

    It computes two factors from the timestep, which is on the device there and on the host here. torch rounds
    a single number of the device to the sample's half precision before it multiplies, and none of the host.
    """
    factors = scheduler.get_scalings_for_boundary_condition_discrete

    def on_device(timestep: Tensor) -> tuple[Tensor, Tensor]:
        skip, out = factors(timestep)
        return skip.to(device), out.to(device)

    scheduler.get_scalings_for_boundary_condition_discrete = on_device


def step_arguments(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    """Of these arguments, the ones that this scheduler's `step` accepts."""
    accepted = inspect.signature(scheduler.step).parameters
    offered: dict[str, Any] = {"generator": generator, "eta": 0.0}
    return {name: value for name, value in offered.items() if name in accepted}


def _guidance_embedding(
    params: GenerationParams, pipe: Any, dtype: torch.dtype, device: torch.device
) -> Tensor | None:
    """Of UNets that take the guidance scale as an input (LCM); None for others."""
    width = pipe.unet.config.time_cond_proj_dim
    if width is None:
        return None
    scale = torch.tensor(params.guidance_scale - 1, dtype=torch.float32).repeat(1)
    embedding = pipe.get_guidance_scale_embedding(scale, embedding_dim=width)
    return embedding.to(device=device, dtype=dtype)
