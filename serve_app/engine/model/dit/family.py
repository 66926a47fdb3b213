"""TransformerFamily: how a diffusion transformer is called, from a prompt to what its VAE decodes.

Knows one loaded pipeline; nothing of requests or of calls. Each family changes only what its plain pipeline
does otherwise. Prompts go through the pipeline's own `encode_prompt`, one per call, and noise through its
`prepare_latents`, so both are bit-equal to the plain pipeline's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from serve_app.params import GenerationParams

PROMPTS = 32  # encoded ones that are held: of FLUX.2 each takes 8 MB of the device
Branch = Literal["negative", "positive"]
Size = tuple[int, int]  # width, height in pixels
Inputs = dict[str, Tensor]  # of the transformer, each with a first dimension of 1


@dataclass(frozen=True, slots=True)
class Prompt:
    """One encoded prompt. Tokens are counted without marks and template."""

    inputs: Inputs
    used: int  # tokens that the encoder reads
    tokens: int  # of the whole prompt

    @property
    def truncated(self) -> bool:
        return self.tokens > self.used


@dataclass(frozen=True, slots=True)
class TransformerRow:
    """One row of a call. `shared` is equal for all rows of a call, and has no row dimension."""

    inputs: Inputs
    shared: Mapping[str, Any] = field(default_factory=dict[str, Any])


class TransformerFamily(ABC):
    """As written here: latents of four dimensions, and one call for both branches."""

    joint: ClassVar[bool] = True
    """Whether the plain pipeline calls both branches at once. Packing them changes bits."""
    branches: ClassVar[tuple[Branch, ...]] = ("negative", "positive")
    latents_in_float32: ClassVar[bool] = False
    reads_negative: ClassVar[bool] = True

    def __init__(self, pipe: Any, device: torch.device, tokens: int) -> None:
        """`tokens`: that the text encoder reads at most."""
        self.pipe, self.network, self.vae = pipe, pipe.transformer, pipe.vae
        self.device, self.tokens = device, tokens
        self.prompt = lru_cache(maxsize=PROMPTS)(self._prompt)

    # ---- what is known before it is drawn ----

    @staticmethod
    @abstractmethod
    def widths(pipe: Any) -> Mapping[str, tuple[int, int]]:
        """Of its parts, what the transformer expects and what the others give, by what it is."""

    def guides(self, scale: float) -> bool:
        """Whether guidance of this scale adds a row to each evaluation."""
        return scale > 1

    @property
    def distilled(self) -> bool:
        """Whether it was distilled to draw without any guidance scale, so that one has no effect."""
        return False

    # ---- text ----

    @abstractmethod
    def text(self, prompt: str, branch: Branch) -> Inputs:
        """What the transformer reads of a prompt."""

    def negative(self, params: GenerationParams) -> str:
        """The prompt of the negative branch."""
        return params.negative_prompt

    def counted(self, prompt: str) -> tuple[int, int]:
        """(tokens of the prompt, tokens that are read)."""
        tokenizer = self.tokenizer
        marks = tokenizer.num_special_tokens_to_add()
        tokens = len(tokenizer(prompt, add_special_tokens=False).input_ids)
        return tokens, min(tokens, self.tokens - marks)

    @property
    def tokenizer(self) -> Any:
        """Of the encoder that reads the most."""
        return self.pipe.tokenizer

    def _prompt(self, prompt: str, branch: Branch) -> Prompt:
        tokens, used = self.counted(prompt)
        return Prompt(self.text(prompt, branch), used, tokens)

    # ---- noise and schedule ----

    def noise(self, size: Size, generator: torch.Generator) -> tuple[Tensor, Inputs]:
        """First latents, and what else each row of this picture has."""
        return self.prepared(size, generator), {}

    def prepared(self, size: Size, generator: torch.Generator) -> Any:
        """What the pipeline's own `prepare_latents` answers."""
        width, height = size
        dtype = torch.float32 if self.latents_in_float32 else self.pipe.text_encoder.dtype
        return self.pipe.prepare_latents(
            1, self.channels, height, width, dtype, self.device, generator
        )

    @property
    def channels(self) -> int:
        """Of the latents before they are packed."""
        return self.network.config.in_channels

    def set_timesteps(self, scheduler: Any, steps: int, latents: Tensor) -> None:
        scheduler.set_timesteps(steps, device=self.device)

    # ---- one evaluation ----

    @abstractmethod
    def row(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt: Inputs,
        params: GenerationParams,
        extra: Inputs,
    ) -> TransformerRow:
        """`timestep`: 0-d. `extra`: what `noise` gave beside the latents."""

    def call(self, rows: Sequence[TransformerRow]) -> list[Tensor]:
        """One call of the transformer; what it says of each row, with a first dimension of 1."""
        inputs = {name: torch.cat([r.inputs[name] for r in rows]) for name in rows[0].inputs}
        return list(self.network(**inputs, **rows[0].shared, return_dict=False)[0].split(1))

    def guided(self, predictions: Mapping[Branch, Tensor], params: GenerationParams) -> Tensor:
        """One prediction of those of its branches."""
        positive = predictions["positive"]
        if "negative" not in predictions:
            return positive
        negative = predictions["negative"]
        return negative + params.guidance_scale * (positive - negative)

    # ---- pixels ----

    def spatial(self, latents: Tensor, size: Size) -> Tensor:
        """Latents as (n, channels, h, w), if they are packed."""
        return latents

    def vae_input(self, latents: Tensor) -> Tensor:
        """What the VAE decodes, of what `spatial` gave in the VAE's type."""
        return latents / self.vae.config.scaling_factor + self.vae.config.shift_factor

    def picture(self, decoded: Tensor) -> Tensor:
        """(n, 3, height, width) of what the VAE answered."""
        return decoded

    @property
    def preview_channels(self) -> int:
        """Of what `spatial` gives."""
        return self.vae.config.latent_channels

    @property
    def decoder_width(self) -> int:
        """Channels of the VAE at the picture's full size."""
        return self.vae.config.block_out_channels[0]
