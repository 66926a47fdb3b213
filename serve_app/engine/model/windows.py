"""Windows: a prompt of any length, in windows of tokens as long as a text encoder reads, each with a weight.

Knows tokenizers and embeddings; nothing of requests. The weights act as in AUTOMATIC1111's web UI: each
token's embedding is multiplied, and the window is brought back to the mean that it had.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from serve_app.catalog.embeddings import parts_of
from serve_app.catalog.emphasis import Piece, bounded
from serve_app.engine.model.embeddings import NO_VECTORS, Vectors

MOST = 8
"""Windows of one prompt; each costs text encoding, and wider attention in every step."""


SOUND = 1e-4  # of the mean size of the values


@dataclass(frozen=True, slots=True)
class Window:
    """Both lists with the begin and end marks and padding, as long as the encoder reads."""

    tokens: list[int]
    weights: list[float]
    length: int  # without padding
    vectors: tuple[tuple[int, Tensor], ...] = ()  # (width,) each, in the place of the token there

    @property
    def weighted(self) -> bool:
        return any(weight != 1 for weight in self.weights)


@dataclass(frozen=True, slots=True)
class Windows:
    windows: list[Window]  # never empty
    used: int  # tokens that are in them, without marks
    tokens: int  # tokens of the whole prompt
    room: int  # tokens of one window


def windows_of(
    tokenizer: Any, pieces: Sequence[Piece], vectors: Vectors = NO_VECTORS, encoder: int = 0
) -> Windows:
    """At most MOST; what is beyond is left out. `vectors`: of the textual inversions that the pieces may
    name; `encoder`: for which of the text encoders."""
    begin, end = (tokenizer("").input_ids[i] for i in (0, -1))
    room = tokenizer.model_max_length - 2
    open_ones: list[list[tuple[int | Tensor, float]]] = [[]]
    total = 0
    for text, weight in pieces:
        if text is None:
            open_ones.append([])
            continue
        for part, name in parts_of(text, vectors):
            read: list[int | Tensor]
            if name is None:
                read = tokenizer(part, add_special_tokens=False, verbose=False).input_ids
            else:
                read = list(vectors[name][encoder])
                if len(open_ones[-1]) + len(read) > room:  # it is not divided
                    open_ones.append([])
            for token in read:
                if len(open_ones[-1]) == room:
                    open_ones.append([])
                open_ones[-1].append((token, bounded(weight)))
                total += 1
    kept = open_ones[:MOST]
    padding = tokenizer.pad_token_id
    made: list[Window] = []
    for content in kept:
        own = tuple((at, t) for at, (t, _) in enumerate(content, 1) if not isinstance(t, int))
        # Of an encoder that finds the end as its largest token, the first one must not be taken for it.
        plain = [token if isinstance(token, int) else begin for token, _ in content]
        tokens = [begin, *plain, end]
        weights = [1.0, *(weight for _, weight in content), 1.0]
        short = room + 2 - len(tokens)
        filled = [*tokens, *[padding] * short], [*weights, *[1.0] * short]
        made.append(Window(*filled, len(tokens), own))
    return Windows(made, sum(map(len, kept)), total, room)


def emphasised(hidden: Tensor, window: Window) -> Tensor:
    """`hidden`: (1, tokens, width), of this window."""
    if not window.weighted:
        return hidden
    weights = torch.tensor(window.weights, dtype=torch.float32).to(hidden.device)
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
    with _in_place(encoder, window.vectors):
        if not hidden:
            return encoder(tokens, attention_mask=mask)
        return encoder(tokens, attention_mask=mask, output_hidden_states=True)


@contextmanager
def _in_place(encoder: Any, vectors: Sequence[tuple[int, Tensor]]) -> Generator[None]:
    """Within, the encoder reads these vectors in the place of what its table has for the tokens."""
    if not vectors:
        yield
        return

    def put(table: Any, tokens: Any, found: Tensor) -> Tensor:
        found = found.clone()
        for at, vector in vectors:
            found[:, at] = vector
        return found

    hook = encoder.get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()
