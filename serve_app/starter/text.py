"""The frozen text encoder: loads MiniLM the way the pipeline uses it and encodes captions.

It does not know pictures. The same padding and mask as StableDiffusionPipeline.encode_prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import BertModel, BertTokenizer

TOKENS = 24  # longest prompt, with the two tokens that open and close it
WIDTH = 384


def load_text_encoder(folder: Path) -> tuple[BertTokenizer, BertModel]:
    tokenizer = BertTokenizer.from_pretrained(folder, model_max_length=TOKENS)
    encoder = BertModel.from_pretrained(folder, add_pooling_layer=False)
    encoder.config.use_attention_mask = True  # read by the pipeline
    return tokenizer, encoder.eval().requires_grad_(False)


@torch.inference_mode()
def encode(
    tokenizer: BertTokenizer, encoder: BertModel, captions: Sequence[str], batch: int = 128
) -> torch.Tensor:
    """Token states of `captions`, fp16, (len(captions), TOKENS, WIDTH)."""
    states = torch.empty(len(captions), TOKENS, WIDTH, dtype=torch.float16)
    for start in tqdm(range(0, len(captions), batch), desc="captions", unit="batch"):
        tokens = tokenizer(
            list(captions[start : start + batch]),
            padding="max_length",
            max_length=TOKENS,
            truncation=True,
            return_tensors="pt",
        )
        hidden = encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        states[start : start + batch] = hidden.half()
    return states
