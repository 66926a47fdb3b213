"""ZImage: lists instead of batches, latents in full precision, and the positive branch first.

Knows its pipeline; nothing of requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas
from torch import Tensor

from serve_app.engine.model.dit.family import Branch, Inputs, TransformerFamily, TransformerRow
from serve_app.params import GenerationParams


class ZImage(TransformerFamily):
    branches = ("positive", "negative")
    latents_in_float32 = True

    @staticmethod
    def widths(pipe: Any) -> Mapping[str, tuple[int, int]]:
        config = pipe.transformer.config
        return {
            "text": (config.cap_feat_dim, pipe.text_encoder.config.hidden_size),
            "latents": (config.in_channels, pipe.vae.config.latent_channels),
        }

    def guides(self, scale: float) -> bool:
        """With any scale above 0: it adds the difference of the branches to the positive one."""
        return scale > 0

    def text(self, prompt: str, branch: Branch) -> Inputs:
        (hidden,), _ = self.pipe.encode_prompt(
            prompt,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.tokens,
        )
        return {"cap_feats": hidden}  # (tokens, width)

    def set_timesteps(self, scheduler: Any, steps: int, latents: Tensor) -> None:
        config, (height, width) = scheduler.config, latents.shape[-2:]
        shift = calculate_shift(
            (height // 2) * (width // 2),
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        sigmas = get_default_z_image_sigmas(steps)
        scheduler.set_timesteps(sigmas=sigmas, mu=shift, device=self.device)

    def row(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt: Inputs,
        params: GenerationParams,
        extra: Inputs,
    ) -> TransformerRow:
        inputs = {"x": latents.to(self.network.dtype), "t": (1000 - timestep.expand(1)) / 1000}
        return TransformerRow({**inputs, **prompt})

    def call(self, rows: Sequence[TransformerRow]) -> list[Tensor]:
        said = self.network(
            [row.inputs["x"][0].unsqueeze(1) for row in rows],
            torch.cat([row.inputs["t"] for row in rows]),
            [row.inputs["cap_feats"] for row in rows],
            return_dict=False,
        )
        return [one.float().unsqueeze(0) for one in said[0]]

    def guided(self, predictions: Mapping[Branch, Tensor], params: GenerationParams) -> Tensor:
        said = positive = predictions["positive"]
        if "negative" in predictions:
            said = positive + params.guidance_scale * (positive - predictions["negative"])
        return -said.squeeze(2)
