"""Families: how SD 1.x/2.x and SDXL checkpoints differ: text encoding, extra UNet inputs, latent scaling.

Knows the parts of one loaded pipeline; nothing of requests or batches. Plain text goes through the pipeline's
own `encode_prompt`, one prompt per call, so the embeddings are bit-equal to the plain pipeline's. Text with
weights, of several windows or with `clip_skip` goes through `windows`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from serve_app.catalog.emphasis import Piece, pieces_of
from serve_app.engine.model.embeddings import NO_VECTORS, Embeddings, Vectors
from serve_app.engine.model.windows import emphasised, encoded, windows_of
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
    windows: int = 1

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

    def widened(self, text: Text, windows: int, params: GenerationParams) -> Text:
        """The text with empty windows after its own, so that both rows of a request have as many."""
        ...

    def conditions(self, params: GenerationParams, text: Text) -> Conditions:
        """The extra UNet inputs of a row with this text."""
        ...

    def scale(self, latents: Tensor, vae: Any) -> Tensor:
        """From what the VAE encoded to the UNet's latents, both (n, channels, h, w)."""
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
    _texts: OrderedDict[Hashable, Text] = field(default_factory=OrderedDict[Hashable, Text])

    def get(self, prompt: Hashable) -> Text | None:
        text = self._texts.get(prompt)
        if text is None:
            self.misses += 1
        else:
            self.hits += 1
            self._texts.move_to_end(prompt)
        return text

    def put(self, prompt: Hashable, text: Text) -> Text:
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
        self.embeddings: Embeddings | None = None

    def positive(self, params: GenerationParams) -> Text:
        text = self._encode(params.prompt, params)
        if not text.truncated:
            return text
        own = params.through_subject
        if params.prompt_syntax == "weighted":
            found = windows_of(self.pipe.tokenizer, pieces_of(own), self._vectors(params))
            return replace(text, subject=found.tokens)
        return replace(text, subject=count_tokens(self.pipe.tokenizer, own)[1])

    def negative(self, params: GenerationParams) -> Text:
        return self._encode(params.negative_prompt, params)

    def widened(self, text: Text, windows: int, params: GenerationParams) -> Text:
        if text.windows >= windows:
            return text
        empty = self._encode("", params).hidden
        hidden = torch.cat([text.hidden, *[empty] * (windows - text.windows)], dim=1)
        return replace(text, hidden=hidden, windows=windows)

    def conditions(self, params: GenerationParams, text: Text) -> Conditions:
        return {}

    def scale(self, latents: Tensor, vae: Any) -> Tensor:
        return vae.config.scaling_factor * latents

    def unscale(self, latents: Tensor, vae: Any) -> Tensor:
        return latents / vae.config.scaling_factor

    def _encode(self, prompt: str, params: GenerationParams) -> Text:
        pieces = [Piece(prompt)]
        if params.prompt_syntax == "weighted":
            pieces = pieces_of(prompt)
        skip = self._layer(params.clip_skip)
        key = tuple(pieces), skip, params.prompt_syntax, params.loras, params.embeddings
        return self.cache.get(key) or self.cache.put(key, self._encoded(pieces, skip, params))

    def _encoded(self, pieces: Sequence[Piece], layer: int, params: GenerationParams) -> Text:
        tokenizer, vectors = self.pipe.tokenizer, self._vectors(params)
        (text, weight), *more = pieces
        plainly = not more and weight == 1 and layer == self.usual_layer and not vectors
        if text is not None and plainly:
            used, tokens = count_tokens(tokenizer, text)
            if tokens <= used or params.prompt_syntax == "plain":
                return replace(self._plainly(text), used=used, tokens=tokens)
        found = windows_of(tokenizer, pieces, vectors)
        most = 1 if params.prompt_syntax == "plain" else len(found.windows)
        hidden, pooled = self._windowed(pieces, layer, most, vectors)
        used = min(found.used, most * found.room)
        return Text(hidden, pooled, used, found.tokens, windows=most)

    def _vectors(self, params: GenerationParams) -> Vectors:
        if not params.embeddings or self.embeddings is None:
            return NO_VECTORS
        return self.embeddings.load(params.embeddings)

    # ---- what differs in SDXL ----

    usual_layer = 1  # of the text encoder, from its end

    def _layer(self, clip_skip: int) -> int:
        return min(max(clip_skip, self.usual_layer), self._layers)

    @property
    def _layers(self) -> int:
        return self.pipe.text_encoder.config.num_hidden_layers

    def _plainly(self, prompt: str) -> Text:
        return Text(self.pipe.encode_prompt(prompt, self.device, 1, False)[0])

    def _windowed(
        self, pieces: Sequence[Piece], layer: int, most: int, vectors: Vectors
    ) -> tuple[Tensor, Any]:
        encoder = self.pipe.text_encoder
        parts: list[Tensor] = []
        for window in windows_of(self.pipe.tokenizer, pieces, vectors).windows[:most]:
            out = encoded(encoder, window, self.device, hidden=layer > 1)
            hidden = out[0]
            if layer > 1:
                # CLIP norms its last layer's output; where that is depends on the version of transformers.
                norm = getattr(getattr(encoder, "text_model", encoder), "final_layer_norm", None)
                hidden = out.hidden_states[-layer]
                hidden = hidden if norm is None else norm(hidden)
            parts.append(emphasised(hidden, window))
        return torch.cat(parts, dim=1), None


class StableDiffusionXL(StableDiffusion):
    """SDXL: two text encoders, a pooled embedding, and the image size as a condition.

    Where the checkpoint says `force_zeros_for_empty_prompt`, an empty negative prompt is all zeros.
    """

    def __init__(self, pipe: Any, device: torch.device, cache: TextCache) -> None:
        super().__init__(pipe, device, cache)
        self._time_ids: dict[tuple[int, int], Tensor] = {}  # on the device, by (height, width)

    def negative(self, params: GenerationParams) -> Text:
        if params.negative_prompt or not self.pipe.config.force_zeros_for_empty_prompt:
            return self._encode(params.negative_prompt, params)
        positive = self.positive(params)
        assert positive.pooled is not None
        zeros = torch.zeros_like(positive.hidden), torch.zeros_like(positive.pooled)
        return Text(*zeros, windows=positive.windows)

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

    def scale(self, latents: Tensor, vae: Any) -> Tensor:
        if (moments := _moments(latents, vae)) is None:
            return vae.config.scaling_factor * latents
        mean, std = moments
        return (latents - mean) * vae.config.scaling_factor / std

    def unscale(self, latents: Tensor, vae: Any) -> Tensor:
        if (moments := _moments(latents, vae)) is None:
            return latents / vae.config.scaling_factor
        mean, std = moments
        return latents * std / vae.config.scaling_factor + mean

    usual_layer = 2

    def _plainly(self, prompt: str) -> Text:
        hidden, _, pooled, _ = self.pipe.encode_prompt(
            prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Text(hidden, pooled)

    def _windowed(
        self, pieces: Sequence[Piece], layer: int, most: int, vectors: Vectors
    ) -> tuple[Tensor, Any]:
        """The pooled embedding is that of the first window."""
        pipe, both = self.pipe, list[Tensor]()
        pooled: Any = None
        for number, (tokenizer, encoder) in enumerate(
            ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2))
        ):
            windows = windows_of(tokenizer, pieces, vectors, number).windows[:most]
            outs = [encoded(encoder, window, self.device, hidden=True) for window in windows]
            pooled = outs[0][0]
            parts = [
                emphasised(out.hidden_states[-layer], window)
                for out, window in zip(outs, windows, strict=True)
            ]
            both.append(torch.cat(parts, dim=1))
        return torch.cat(both, dim=-1), pooled


def _moments(latents: Tensor, vae: Any) -> tuple[Tensor, Tensor] | None:
    """Mean and spread of each latent channel, where the VAE's config says them."""
    found = [getattr(vae.config, f"latents_{word}", None) for word in ("mean", "std")]
    if None in found:
        return None
    mean, std = (
        torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1).to(latents.device, latents.dtype)
        for v in found
    )
    return mean, std


FAMILIES = {"sd": StableDiffusion, "sdxl": StableDiffusionXL}


def count_tokens(tokenizer: Any, prompt: str) -> tuple[int, int]:
    """(tokens the encoder reads, tokens of the prompt), without the begin and end marks."""
    tokens = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    return min(tokens, room), tokens
