"""Flux2Klein: FLUX.2 klein; places of latents and words per row, and a VAE with a batch norm.

Knows its pipeline; nothing of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from torch import Tensor

from serve_app.engine.model.dit.family import Branch, Inputs, Size, TransformerRow
from serve_app.engine.model.dit.flux import Packed
from serve_app.params import GenerationParams

LAYERS = 3  # of its text encoder are read, side by side


class Flux2Klein(Packed):
    reads_negative = False

    @staticmethod
    def widths(pipe: Any) -> Mapping[str, tuple[int, int]]:
        config = pipe.transformer.config
        return {
            "text": (config.joint_attention_dim, LAYERS * pipe.text_encoder.config.hidden_size),
            "latents": (config.in_channels, 4 * pipe.vae.config.latent_channels),
        }

    def guides(self, scale: float) -> bool:
        return scale > 1 and not self.distilled

    @property
    def distilled(self) -> bool:
        return self.pipe.config.is_distilled

    def negative(self, params: GenerationParams) -> str:
        return ""

    def text(self, prompt: str, branch: Branch) -> Inputs:
        hidden, places = self.pipe.encode_prompt(
            prompt, device=self.device, max_sequence_length=self.tokens
        )
        return {"encoder_hidden_states": hidden, "txt_ids": places}

    def noise(self, size: Size, generator: torch.Generator) -> tuple[Tensor, Inputs]:
        latents, places = self.prepared(size, generator)
        return latents, {"img_ids": places}

    def shift(self, config: Any, steps: int, patches: int) -> float:
        return compute_empirical_mu(image_seq_len=patches, num_steps=steps)

    def row(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt: Inputs,
        params: GenerationParams,
        extra: Inputs,
    ) -> TransformerRow:
        inputs = {
            "hidden_states": latents.to(self.network.dtype),
            "timestep": timestep.expand(1).to(latents.dtype) / 1000,
        }
        return TransformerRow({**inputs, **prompt, **extra}, {"guidance": None})

    def spatial(self, latents: Tensor, size: Size) -> Tensor:
        """Each patch is one place of four times the channels."""
        width, height = (side // (2 * self.pipe.vae_scale_factor) for side in size)
        return latents.transpose(1, 2).reshape(len(latents), -1, height, width)

    def vae_input(self, latents: Tensor) -> Tensor:
        norm = self.vae.bn
        mean, variance = (v.view(1, -1, 1, 1) for v in (norm.running_mean, norm.running_var))
        std = torch.sqrt(variance + self.vae.config.batch_norm_eps)
        return self.pipe._unpatchify_latents(
            latents * std.to(latents.dtype) + mean.to(latents.dtype)
        )

    @property
    def preview_channels(self) -> int:
        return 4 * self.vae.config.latent_channels
