"""write_tokenizer(): the files of CLIP's tokenizer, from the merges that ship with this project.

Knows byte pair encoding; nothing of models. Imports no torch. The merges are those of OpenAI's CLIP
(MIT License, Copyright (c) 2021 OpenAI), the 48,894 lines that its vocabulary is made of.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

MERGES = Path(__file__).with_name("clip_merges.txt.gz")
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 77


def write_tokenizer(folder: Path, *, padding: str = END) -> None:
    """`padding`: the token that fills a prompt up; OpenCLIP's is `!`, the first one of the vocabulary."""
    merges = gzip.decompress(MERGES.read_bytes()).decode().splitlines()
    folder.mkdir(parents=True)
    vocabulary = {token: number for number, token in enumerate(_tokens(merges))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": TOKENS,
            "do_lower_case": True,
            "add_prefix_space": False,
            "errors": "replace",
            "bos_token": BEGIN,
            "eos_token": END,
            "unk_token": END,
            "pad_token": padding,
        },
    )
    _write(
        folder / "special_tokens_map.json",
        {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": padding},
    )


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1), "utf-8")


def _tokens(merges: list[str]) -> list[str]:
    """In the order of their numbers: each byte, each byte at a word's end, each merge, the two marks."""
    letters = list(_letters_of_bytes().values())
    merged = [merge.replace(" ", "") for merge in merges]
    return [*letters, *(letter + "</w>" for letter in letters), *merged, BEGIN, END]


def _letters_of_bytes() -> dict[int, str]:
    """GPT-2's table: a printable character for each byte. Those that are none get one from 256 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {byte: chr(byte) for byte in plain}
    return table | {byte: chr(256 + i) for i, byte in enumerate(others)}
