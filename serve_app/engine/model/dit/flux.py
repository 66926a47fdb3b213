"""Flux: FLUX.1 dev, whose guidance scale is an input of the transformer, and schnell, which has none.

Knows its pipeline; nothing of requests. `Packed` is what it shares with other families: latents as a list of
2 x 2 patches, and a schedule that depends on how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor

from serve_app.engine.model.dit.family import (
    Branch,
    Inputs,
    Size,
    TransformerFamily,
    TransformerRow,
)
from serve_app.params import GenerationParams


class Packed(TransformerFamily):
    """Latents (1, patches, 4 x channels); branches in calls of their own."""

    joint = False

    @property
    def channels(self) -> int:
        return self.network.config.in_channels // 4

    def set_timesteps(self, scheduler: Any, steps: int, latents: Tensor) -> None:
        shift = self.shift(scheduler.config, steps, latents.shape[1])
        sigmas = np.linspace(1.0, 1 / steps, steps)
        scheduler.set_timesteps(sigmas=sigmas, mu=shift, device=self.device)

    def shift(self, config: Any, steps: int, patches: int) -> float:
        return calculate_shift(
            patches,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )

    def spatial(self, latents: Tensor, size: Size) -> Tensor:
        width, height = size
        return self.pipe._unpack_latents(latents, height, width, self.pipe.vae_scale_factor)


class Flux(Packed):
    reads_negative = False

    @staticmethod
    def widths(pipe: Any) -> Mapping[str, tuple[int, int]]:
        config = pipe.transformer.config
        return {
            "text": (config.joint_attention_dim, pipe.text_encoder_2.config.d_model),
            "pooled text": (config.pooled_projection_dim, pipe.text_encoder.config.hidden_size),
            "latents": (config.in_channels, 4 * pipe.vae.config.latent_channels),
        }

    def guides(self, scale: float) -> bool:
        return False

    @property
    def distilled(self) -> bool:
        return not self.network.config.guidance_embeds

    @property
    def tokenizer(self) -> Any:
        return self.pipe.tokenizer_2

    def text(self, prompt: str, branch: Branch) -> Inputs:
        hidden, pooled, _ = self.pipe.encode_prompt(
            prompt, device=self.device, max_sequence_length=self.tokens
        )
        return {"encoder_hidden_states": hidden, "pooled_projections": pooled}

    def noise(self, size: Size, generator: torch.Generator) -> tuple[Tensor, Inputs]:
        latents, places = self.prepared(size, generator)
        return latents, {"img_ids": places}

    def row(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt: Inputs,
        params: GenerationParams,
        extra: Inputs,
    ) -> TransformerRow:
        hidden = prompt["encoder_hidden_states"]
        inputs = {
            "hidden_states": latents,
            "timestep": timestep.expand(1).to(latents.dtype) / 1000,
            **prompt,
        }
        if not self.distilled:
            inputs["guidance"] = torch.full(
                [1], params.guidance_scale, dtype=torch.float32, device=self.device
            )
        return TransformerRow(inputs, {"txt_ids": hidden.new_zeros(hidden.shape[1], 3), **extra})
