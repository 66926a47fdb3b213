"""Prompt syntax of other programs: finds it in a text, and writes a text so that they read none in it.

Knows the marks of AUTOMATIC1111's web UI and of Compel, the two most in use. No model here reads them: it
draws them as words.
"""

from __future__ import annotations

import re

from serve_app.params import GenerationParams

MOST_NAMED = 4

_SYNTAX = re.compile(
    r"<\w+:[^<>]+>"  # <lora:name:0.8>, <hypernet:name:1>
    r"|\((?:[^()]|\([^()]*\))*:\s*[+-]?[\d.]+\s*\)"  # (words:1.2), with brackets inside or not
    r"|\(\([^()]*\)+"  # ((words))
    r"|\([^()]*\)(?:[+-]+|[\d.]+)(?!\w)"  # Compel: (words)++ and (words)1.2
    r"|\b[^\W\d]\w+(?:\+\++|--+)(?!\w)"  # Compel: word++ and word--
    r"|\[[^\[\]]*[|:][^\[\]]*\]"  # [a|b] and [from:to:0.5]
    r"|\[\[[^\[\]]*\]+"  # [[words]]
    r"|\{[^{}]*\|[^{}]*\}"  # {a|b}
    r"|\b(?:BREAK|AND)\b"
    r"|\bembedding:\w+"
)


def syntax_in(text: str) -> list[str]:
    """The parts that another program would read as syntax and not as words, each once, in their order."""
    return list(dict.fromkeys(_SYNTAX.findall(text)))


def syntax_notes(params: GenerationParams) -> list[str]:
    """Notes of an image: which parts of its prompts were drawn as words, since no model here reads syntax."""
    texts = {"prompt_syntax": params.prompt, "negative_prompt_syntax": params.negative_prompt}
    found = {code: syntax_in(text) for code, text in texts.items()}
    return [f"{code}: {_note(parts, params.model)}" for code, parts in found.items() if parts]


def _note(parts: list[str], model: str) -> str:
    shown = " ".join(parts[:MOST_NAMED])
    more = f" and {len(parts) - MOST_NAMED} more" if len(parts) > MOST_NAMED else ""
    return f"{shown}{more}: drawn as words, since {model} reads no weights, LoRAs or other syntax"


def as_words(text: str) -> str:
    """The text for AUTOMATIC1111's web UI, which then draws the words that were drawn here.

    Brackets and backslashes are escaped as it wants it. It has no escape for the others: a space goes into
    `<lora:...>`, and BREAK and AND become small, which changes no token of CLIP.
    """
    text = re.sub(r"[\\()\[\]]", r"\\\g<0>", text)
    text = re.sub(r"<(?=\w+:)", "< ", text)
    return re.sub(r"\b(?:BREAK|AND)\b", lambda word: word[0].lower(), text)
