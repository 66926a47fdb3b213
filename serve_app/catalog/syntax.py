"""Prompt syntax of other programs: finds it in a text, and writes a text so that they read none in it.

Knows the marks of AUTOMATIC1111's web UI and of Compel, the two most in use. With the prompt syntax `plain`
all of them are drawn as words; with `weighted`, those that `emphasis` does not know.
"""

from __future__ import annotations

import re

from serve_app.catalog.emphasis import HIGHEST, LOWEST, is_extreme
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


_NOT_WEIGHTS = re.compile(
    r"<\w+:[^<>]+>"
    r"|\([^()]*\)(?:[+-]+|[\d.]+)(?!\w)"
    r"|\b[^\W\d]\w+(?:\+\++|--+)(?!\w)"
    r"|\[[^\[\]]*[|:][^\[\]]*\]"
    r"|\{[^{}]*\|[^{}]*\}"
    r"|\bAND\b"
    r"|\bembedding:\w+"
)
"""Of these, what is no weight of AUTOMATIC1111 and no BREAK."""


def syntax_in(text: str, *, weighted: bool = False) -> list[str]:
    """The parts that another program would read as syntax and not as words, each once, in their order.
    `weighted`: without those that are read here."""
    return list(dict.fromkeys((_NOT_WEIGHTS if weighted else _SYNTAX).findall(text)))


def syntax_notes(params: GenerationParams) -> list[str]:
    """Notes of an image: which parts of its prompts were drawn as words, or with another weight."""
    weighted = params.prompt_syntax == "weighted"
    notes: list[str] = []
    for text, syntax, weights in (
        (params.prompt, "prompt_syntax", "prompt_weights"),
        (params.negative_prompt, "negative_prompt_syntax", "negative_prompt_weights"),
    ):
        parts = [p for p in syntax_in(text, weighted=weighted) if not _is_drawn(p, params)]
        if parts:
            notes.append(f"{syntax}: {_note(parts, params)}")
        if weighted and is_extreme(text):
            notes.append(f"{weights}: held within {LOWEST:g} and {HIGHEST:g}")
    if params.embeddings:
        names = ", ".join(use.name for use in params.embeddings)
        notes.append(f"embeddings: {names} stand in the place of words")
    return notes


def _is_drawn(part: str, params: GenerationParams) -> bool:
    """Whether it is `embedding:NAME` of one that is drawn; of a name with signs, its beginning."""
    mark, _, name = part.partition(":")
    drawn = (use.name.lower().startswith(name.lower()) for use in params.embeddings)
    return mark == "embedding" and any(drawn)


def _note(parts: list[str], params: GenerationParams) -> str:
    shown = " ".join(parts[:MOST_NAMED])
    more = f" and {len(parts) - MOST_NAMED} more" if len(parts) > MOST_NAMED else ""
    if params.prompt_syntax == "weighted":
        return f"{shown}{more}: drawn as words; weights and BREAK are read, and nothing else"
    return (
        f"{shown}{more}: drawn as words, since {params.model} reads no weights, LoRAs or other syntax; "
        "`prompt_syntax: weighted` reads weights and BREAK"
    )


def as_words(text: str, *, weighted: bool = False) -> str:
    """The text for AUTOMATIC1111's web UI, which then draws what was drawn here. `weighted`: its weights are
    meant.

    Brackets and backslashes are escaped as it wants it. It has no escape for the others: a space goes into
    `<lora:...>`, and BREAK and AND become small, which changes no token of CLIP.
    """
    if weighted:
        return re.sub(r"\bAND\b", "and", re.sub(r"<(?=\w+:)", "< ", text))
    text = re.sub(r"[\\()\[\]]", r"\\\g<0>", text)
    text = re.sub(r"<(?=\w+:)", "< ", text)
    return re.sub(r"\b(?:BREAK|AND)\b", lambda word: word[0].lower(), text)
