"""Captions as token numbers, by the tokenizer's file alone: every process that writes captions has it.

It does not know the text encoder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

TOKENS = 24  # longest prompt, with the two tokens that open and close it


def load_tokens(folder: Path) -> Tokenizer:
    """The tokenizer alone: small enough for every process that writes captions."""
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens.enable_truncation(TOKENS)
    padding = json.loads((folder / "tokenizer_config.json").read_text()).get("pad_token", "[PAD]")
    tokens.enable_padding(length=TOKENS, pad_id=tokens.token_to_id(padding), pad_token=padding)
    return tokens


def token_ids(tokens: Tokenizer, captions: Sequence[str]) -> np.ndarray:
    """(len(captions), TOKENS), int32; padding is 0."""
    return np.array([e.ids for e in tokens.encode_batch(list(captions))], np.int32)
