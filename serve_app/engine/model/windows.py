"""Windows: a prompt of any length, in windows of tokens as long as a text encoder reads, each with a weight.

Knows tokenizers and embeddings; nothing of requests. The weights act as in AUTOMATIC1111's web UI: each
token's embedding is multiplied, and the window is brought back to the mean that it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from serve_app.catalog.emphasis import Piece, bounded

MOST = 8
"""Windows of one prompt; each costs text encoding, and wider attention in every step."""


SOUND = 1e-4  # of the mean size of the values


@dataclass(frozen=True, slots=True)
class Window:
    """Both lists with the begin and end marks and padding, as long as the encoder reads."""

    tokens: list[int]
    weights: list[float]
    length: int  # without padding

    @property
    def weighted(self) -> bool:
        return any(weight != 1 for weight in self.weights)


@dataclass(frozen=True, slots=True)
class Windows:
    windows: list[Window]  # never empty
    used: int  # tokens that are in them, without marks
    tokens: int  # tokens of the whole prompt
    room: int  # tokens of one window


def windows_of(tokenizer: Any, pieces: Sequence[Piece]) -> Windows:
    """At most MOST; what is beyond is left out."""
    begin, end = (tokenizer("").input_ids[i] for i in (0, -1))
    room = tokenizer.model_max_length - 2
    open_ones: list[list[tuple[int, float]]] = [[]]
    total = 0
    for text, weight in pieces:
        if text is None:
            open_ones.append([])
            continue
        for token in tokenizer(text, add_special_tokens=False, verbose=False).input_ids:
            if len(open_ones[-1]) == room:
                open_ones.append([])
            open_ones[-1].append((token, bounded(weight)))
            total += 1
    kept = open_ones[:MOST]
    padding = tokenizer.pad_token_id
    made: list[Window] = []
    for content in kept:
        tokens = [begin, *(token for token, _ in content), end]
        weights = [1.0, *(weight for _, weight in content), 1.0]
        short = room + 2 - len(tokens)
        filled = [*tokens, *[padding] * short], [*weights, *[1.0] * short]
        made.append(Window(*filled, len(tokens)))
    return Windows(made, sum(map(len, kept)), total, room)


def emphasised(hidden: Tensor, window: Window) -> Tensor:
    """`hidden`: (1, tokens, width), of this window."""
    if not window.weighted:
        return hidden
    weights = torch.tensor(window.weights).to(hidden.device)
    full = hidden.float()
    weighted = full * weights[None, :, None]
    mean = weighted.mean()
    # A mean that is nearly zero says nothing: to divide by it would blow the window up.
    sound = mean.abs() > SOUND * weighted.abs().mean()
    return torch.where(sound, weighted * (full.mean() / mean), weighted).to(hidden.dtype)


def encoded(encoder: Any, window: Window, device: torch.device, *, hidden: bool) -> Any:
    """The encoder's output; with all hidden states where `hidden`."""
    mask = None
    if getattr(encoder.config, "use_attention_mask", False):  # as diffusers does
        padding = len(window.tokens) - window.length
        mask = torch.tensor([[1] * window.length + [0] * padding]).to(device)
    tokens = torch.tensor([window.tokens]).to(device)
    if not hidden:
        return encoder(tokens, attention_mask=mask)
    return encoder(tokens, attention_mask=mask, output_hidden_states=True)
