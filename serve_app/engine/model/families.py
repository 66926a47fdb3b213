"""Families: how SD 1.x/2.x and SDXL checkpoints differ: text encoding, extra UNet inputs, latent scaling.

Knows the parts of one loaded pipeline; nothing of requests or batches. Text goes through the pipeline's own
`encode_prompt`, one prompt per call, so the embeddings are bit-equal to the plain pipeline's.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from serve_app.params import GenerationParams

Conditions = dict[str, Tensor]  # extra per-row inputs of the UNet, each of shape (1, ...)


@dataclass(frozen=True, slots=True)
class Text:
    """One encoded prompt. Tokens are counted without the begin and end marks."""

    hidden: Tensor  # (1, tokens, width)
    pooled: Tensor | None = None  # (1, width), SDXL
    used: int = 0  # tokens that the encoder reads
    tokens: int = 0  # tokens of the whole prompt
    subject: int = 0  # of a truncated prompt: tokens up to the end of the client's own words

    @property
    def truncated(self) -> bool:
        return self.tokens > self.used

    @property
    def cuts_subject(self) -> bool:
        return self.subject > self.used


class Family(Protocol):
    """What the model runner asks of a checkpoint's family."""

    def positive(self, params: GenerationParams) -> Text:
        """The encoded prompt."""
        ...

    def negative(self, params: GenerationParams) -> Text:
        """The encoded negative prompt."""
        ...

    def conditions(self, params: GenerationParams, text: Text) -> Conditions:
        """The extra UNet inputs of a row with this text."""
        ...

    def unscale(self, latents: Tensor, vae: Any) -> Tensor:
        """From the UNet's latents to what the VAE decodes, both (n, channels, h, w)."""
        ...


@dataclass
class TextCache:
    """The `size` most recently used encoded texts, so that images with the same prompt share one encoding."""

    size: int = 256
    hits: int = 0
    misses: int = 0
    _texts: OrderedDict[str, Text] = field(default_factory=OrderedDict[str, Text])

    def get(self, prompt: str) -> Text | None:
        text = self._texts.get(prompt)
        if text is None:
            self.misses += 1
        else:
            self.hits += 1
            self._texts.move_to_end(prompt)
        return text

    def put(self, prompt: str, text: Text) -> Text:
        self._texts[prompt] = text
        if len(self._texts) > self.size:
            self._texts.popitem(last=False)
        return text


class StableDiffusion:
    """SD 1.x and 2.x, also when distilled to few steps: one text encoder."""

    def __init__(self, pipe: Any, device: torch.device, cache: TextCache) -> None:
        self.pipe = pipe
        self.device = device
        self.cache = cache

    def positive(self, params: GenerationParams) -> Text:
        text = self._encode(params.prompt)
        if not text.truncated:
            return text
        return replace(text, subject=count_tokens(self.pipe.tokenizer, params.through_subject)[1])

    def negative(self, params: GenerationParams) -> Text:
        return self._encode(params.negative_prompt)

    def conditions(self, params: GenerationParams, text: Text) -> Conditions:
        return {}

    def unscale(self, latents: Tensor, vae: Any) -> Tensor:
        return latents / vae.config.scaling_factor

    def _encode(self, prompt: str) -> Text:
        return self.cache.get(prompt) or self.cache.put(prompt, self._encoded(prompt))

    def _encoded(self, prompt: str) -> Text:
        hidden, _ = self.pipe.encode_prompt(prompt, self.device, 1, False)
        used, tokens = count_tokens(self.pipe.tokenizer, prompt)
        return Text(hidden, None, used, tokens)


class StableDiffusionXL(StableDiffusion):
    """SDXL: two text encoders, a pooled embedding, and the image size as a condition.

    Where the checkpoint says `force_zeros_for_empty_prompt`, an empty negative prompt is all zeros.
    """

    def __init__(self, pipe: Any, device: torch.device, cache: TextCache) -> None:
        super().__init__(pipe, device, cache)
        self._time_ids: dict[tuple[int, int], Tensor] = {}  # on the device, by (height, width)

    def negative(self, params: GenerationParams) -> Text:
        if params.negative_prompt or not self.pipe.config.force_zeros_for_empty_prompt:
            return self._encode(params.negative_prompt)
        positive = self.positive(params)
        assert positive.pooled is not None
        return Text(torch.zeros_like(positive.hidden), torch.zeros_like(positive.pooled))

    def conditions(self, params: GenerationParams, text: Text) -> Conditions:
        assert text.pooled is not None
        size = (params.height, params.width)
        if size not in self._time_ids:
            self._time_ids[size] = self.pipe._get_add_time_ids(
                size,
                (0, 0),
                size,
                dtype=text.hidden.dtype,
                text_encoder_projection_dim=self.pipe.text_encoder_2.config.projection_dim,
            ).to(self.device)
        return {"text_embeds": text.pooled, "time_ids": self._time_ids[size]}

    def unscale(self, latents: Tensor, vae: Any) -> Tensor:
        mean, std = (getattr(vae.config, f"latents_{word}", None) for word in ("mean", "std"))
        if mean is None or std is None:
            return latents / vae.config.scaling_factor
        mean, std = (
            torch.tensor(v).view(1, -1, 1, 1).to(latents.device, latents.dtype) for v in (mean, std)
        )
        return latents * std / vae.config.scaling_factor + mean

    def _encoded(self, prompt: str) -> Text:
        hidden, _, pooled, _ = self.pipe.encode_prompt(
            prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        used, tokens = count_tokens(self.pipe.tokenizer, prompt)
        return Text(hidden, pooled, used, tokens)


FAMILIES = {"sd": StableDiffusion, "sdxl": StableDiffusionXL}


def count_tokens(tokenizer: Any, prompt: str) -> tuple[int, int]:
    """(tokens the encoder reads, tokens of the prompt), without the begin and end marks."""
    tokens = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    return min(tokens, room), tokens
