"""Sana: a VAE that makes 32 pixels of a latent, a mask of the text, and DPM++ over a flow.

Knows its pipeline; nothing of requests.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from serve_app.engine.model.dit.family import Branch, Inputs, TransformerFamily, TransformerRow
from serve_app.params import GenerationParams


class Sana(TransformerFamily):
    latents_in_float32 = True

    def __init__(self, pipe: Any, device: torch.device, tokens: int) -> None:
        super().__init__(pipe, device, tokens)
        usual = inspect.signature(pipe.__call__).parameters
        self._instruction = usual["complex_human_instruction"].default  # before each prompt

    @staticmethod
    def widths(pipe: Any) -> Mapping[str, tuple[int, int]]:
        config = pipe.transformer.config
        return {
            "text": (config.caption_channels, pipe.text_encoder.config.hidden_size),
            "latents": (config.in_channels, pipe.vae.config.latent_channels),
        }

    def text(self, prompt: str, branch: Branch) -> Inputs:
        hidden, mask, *_ = self.pipe.encode_prompt(
            prompt,
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=self.tokens,
            complex_human_instruction=self._instruction if branch == "positive" else None,
        )
        return {
            "encoder_hidden_states": hidden.to(self.network.dtype),
            "encoder_attention_mask": mask,
        }

    def row(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt: Inputs,
        params: GenerationParams,
        extra: Inputs,
    ) -> TransformerRow:
        scaled = timestep.expand(1) * self.network.config.timestep_scale
        sample = latents.to(self.network.dtype)
        return TransformerRow({"hidden_states": sample, "timestep": scaled, **prompt})

    def call(self, rows: Sequence[TransformerRow]) -> list[Tensor]:
        return [said.float() for said in super().call(rows)]

    def guided(self, predictions: Mapping[Branch, Tensor], params: GenerationParams) -> Tensor:
        said = super().guided(predictions, params)
        learns_sigma = self.network.config.out_channels // 2 == self.channels
        return said.chunk(2, dim=1)[0] if learns_sigma else said

    def vae_input(self, latents: Tensor) -> Tensor:
        return latents / self.vae.config.scaling_factor

    @property
    def decoder_width(self) -> int:
        return self.vae.config.decoder_block_out_channels[0]
