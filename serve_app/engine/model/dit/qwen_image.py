"""QwenImage: ragged texts, a norm after guidance, and a VAE of videos.

Knows its pipeline; nothing of requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from serve_app.engine.model.dit.family import Branch, Inputs, Size, TransformerRow
from serve_app.engine.model.dit.flux import Packed
from serve_app.params import GenerationParams

NOTHING = " "  # a negative prompt of one space, as its card says


class QwenImage(Packed):
    @staticmethod
    def widths(pipe: Any) -> Mapping[str, tuple[int, int]]:
        config, text = pipe.transformer.config, pipe.text_encoder.config.text_config
        return {
            "text": (config.joint_attention_dim, text.hidden_size),
            "latents": (config.in_channels, 4 * pipe.vae.config.z_dim),
        }

    def negative(self, params: GenerationParams) -> str:
        return params.negative_prompt or NOTHING

    def text(self, prompt: str, branch: Branch) -> Inputs:
        hidden, _ = self.pipe.encode_prompt(
            prompt, device=self.device, max_sequence_length=self.tokens
        )
        return {"encoder_hidden_states": hidden}

    def row(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt: Inputs,
        params: GenerationParams,
        extra: Inputs,
    ) -> TransformerRow:
        pixels = 2 * self.pipe.vae_scale_factor  # of a patch
        shape = (1, params.height // pixels, params.width // pixels)
        timestep = timestep.expand(1).to(latents.dtype) / 1000
        return TransformerRow(
            {"hidden_states": latents, "timestep": timestep, **prompt}, {"shape": shape}
        )

    def call(self, rows: Sequence[TransformerRow]) -> list[Tensor]:
        """Texts are padded to the longest one; a mask is given only where that changes one."""
        texts = [row.inputs["encoder_hidden_states"] for row in rows]
        lengths = [text.shape[1] for text in texts]
        longest = max(lengths)
        mask: Tensor | None = None
        if len(set(lengths)) > 1:
            places = torch.arange(longest, device=self.device)
            mask = torch.stack([(places < length).long() for length in lengths])
            texts = [pad(text, (0, 0, 0, longest - text.shape[1])) for text in texts]
        said = self.network(
            hidden_states=torch.cat([row.inputs["hidden_states"] for row in rows]),
            timestep=torch.cat([row.inputs["timestep"] for row in rows]),
            guidance=None,
            encoder_hidden_states=torch.cat(texts),
            encoder_hidden_states_mask=mask,
            img_shapes=[[row.shared["shape"]] for row in rows],
            attention_kwargs={},
            return_dict=False,
        )
        return list(said[0].split(1))

    def guided(self, predictions: Mapping[Branch, Tensor], params: GenerationParams) -> Tensor:
        both = super().guided(predictions, params)
        if "negative" not in predictions:
            return both
        lengths = [torch.norm(x, dim=-1, keepdim=True) for x in (predictions["positive"], both)]
        return both * (lengths[0] / lengths[1])

    def spatial(self, latents: Tensor, size: Size) -> Tensor:
        return super().spatial(latents, size)[:, :, 0]

    def vae_input(self, latents: Tensor) -> Tensor:
        config = self.vae.config
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1, 1).to(latents.device, latents.dtype)
            for values in (config.latents_mean, config.latents_std)
        )
        return latents.unsqueeze(2) / (1.0 / std) + mean

    def picture(self, decoded: Tensor) -> Tensor:
        return decoded[:, :, 0]

    @property
    def preview_channels(self) -> int:
        return self.vae.config.z_dim

    @property
    def decoder_width(self) -> int:
        return self.vae.config.base_dim
