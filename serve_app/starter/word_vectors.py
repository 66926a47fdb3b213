"""Writes the vocabulary beside the weights: word vectors of their text encoder, made small.

It does not know who asks the vocabulary, nor what the UNet makes of a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import BertModel

from .captions import Concept
from .sprites import CutOut
from .text import load_text_encoder, states
from .tokens import load_tokens, token_ids
from .vocabulary import Vocabulary, describing_words

DIMENSIONS = 64
KEPT = 16_000  # words, the nearest to anything known first: of the others nothing could be said


def write(
    weights: Path,
    things: Sequence[Concept],
    sure: Sequence[str] = (),
    further: Sequence[str] = (),
) -> Vocabulary:
    """Writes vocabulary.npz into `weights`. It holds the words `sure`; besides, of the tokenizer's
    words and `further`, those nearest to anything known."""
    encoder = load_text_encoder(weights / "text_encoder")[1]
    folder = weights / ("tokenizer" if (weights / "tokenizer").exists() else "text_encoder")
    tokens = load_tokens(folder)
    names = [name for thing in things for name in thing.names]
    words = plain_words([*tokens.get_vocab(), *further, *sure])
    of_names = meanings(encoder, token_ids(tokens, names))
    of_words = meanings(encoder, token_ids(tokens, words))
    nearest = (of_words @ of_names.T).max(1) + np.isin(words, list(sure))
    kept = np.sort(nearest.argsort()[::-1][:KEPT])
    # The axes along which the names differ most.
    axes = np.linalg.svd(of_names, full_matrices=False)[2][:DIMENSIONS]
    found = Vocabulary(
        tuple(things),
        describing_words(),
        tuple(words[row] for row in kept),
        of_words[kept] @ axes.T,
        of_names @ axes.T,
    )
    found.save(weights)
    return Vocabulary.load(weights)


def spoken(things: Sequence[Concept]) -> list[Concept]:
    """`wolf face` is said `wolf`, unless there is a whole wolf as well."""
    labels = {thing.names[0] for thing in things}

    def short(label: str) -> str:
        said = label.removesuffix(" face")
        return label if said in labels else said

    return [Concept((short(thing.names[0]), *thing.names[1:])) for thing in things]


def rendered(about: Sequence[CutOut], things: Sequence[Concept]) -> list[Concept]:
    """What else the rendered pictures show: taught less often, but taught."""
    known = {name for thing in things for name in thing.names}
    found = (one.names[0] for one in about if one.look == "3d" and not one.concept)
    return [Concept((name,)) for name in sorted({*found} - known)]


def plain_words(found: Sequence[str]) -> list[str]:
    """Of `found`, lower-case words of three letters or more that are no form of another one."""
    words = {word for word in found if re.fullmatch("[a-z]{3,15}", word)}

    def inflected(word: str) -> bool:
        stems = [word.removesuffix(end) for end in ("s", "es", "ed", "d", "ing", "ly", "ness")]
        return any(stem != word and stem in words for stem in stems)

    return sorted(word for word in words if not inflected(word))


def meanings(encoder: BertModel, ids: np.ndarray, batch: int = 256) -> np.ndarray:
    """Mean token states (N, WIDTH) of length 1: the encoder's own sentence vectors."""
    parts: list[np.ndarray] = []
    for rows in torch.from_numpy(ids).long().split(batch):
        longest = int((rows != 0).sum(1).max())
        few = rows[:, :longest]
        hidden, spoken = states(encoder, few), (few != 0).float().unsqueeze(-1)
        mean = (hidden * spoken).sum(1) / spoken.sum(1)
        parts.append(torch.nn.functional.normalize(mean, dim=1).numpy())
    return np.concatenate(parts)
