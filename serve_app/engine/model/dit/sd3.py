"""StableDiffusion3: SD 3 and 3.5; two CLIPs and a T5, which a checkpoint may leave out.

Knows its pipeline; nothing of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift
from torch import Tensor

from serve_app.engine.model.dit.family import Branch, Inputs, TransformerFamily, TransformerRow
from serve_app.params import GenerationParams


class StableDiffusion3(TransformerFamily):
    @staticmethod
    def widths(pipe: Any) -> Mapping[str, tuple[int, int]]:
        config, t5 = pipe.transformer.config, pipe.text_encoder_3
        clips = [pipe.text_encoder.config, pipe.text_encoder_2.config]
        text = config.joint_attention_dim
        return {
            "text": (text, text if t5 is None else t5.config.d_model),
            "pooled text": (config.pooled_projection_dim, sum(c.projection_dim for c in clips)),
            "latents": (config.in_channels, pipe.vae.config.latent_channels),
        }

    @property
    def tokenizer(self) -> Any:
        return self.pipe.tokenizer_3 or self.pipe.tokenizer

    def counted(self, prompt: str) -> tuple[int, int]:
        tokens, used = super().counted(prompt)
        if self.pipe.tokenizer_3 is None:
            marks = self.tokenizer.num_special_tokens_to_add()
            used = min(used, self.tokenizer.model_max_length - marks)
        return tokens, used

    def text(self, prompt: str, branch: Branch) -> Inputs:
        hidden, _, pooled, _ = self.pipe.encode_prompt(
            prompt,
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.tokens,
        )
        return {"encoder_hidden_states": hidden, "pooled_projections": pooled}

    def set_timesteps(self, scheduler: Any, steps: int, latents: Tensor) -> None:
        config, patch = scheduler.config, self.network.config.patch_size
        shift: dict[str, float] = {}
        if config.get("use_dynamic_shifting"):
            height, width = latents.shape[-2:]
            shift["mu"] = calculate_shift(
                (height // patch) * (width // patch),
                config.get("base_image_seq_len", 256),
                config.get("max_image_seq_len", 4096),
                config.get("base_shift", 0.5),
                config.get("max_shift", 1.16),
            )
        scheduler.set_timesteps(steps, device=self.device, **shift)

    def row(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt: Inputs,
        params: GenerationParams,
        extra: Inputs,
    ) -> TransformerRow:
        return TransformerRow({"hidden_states": latents, "timestep": timestep.expand(1), **prompt})
