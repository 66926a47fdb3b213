"""Emphasis: how strongly each part of a prompt counts, as people write it for AUTOMATIC1111's web UI.

Knows text; no tokens. `(words)` count 1.1 times, `[words]` 1/1.1 times, `(words:1.3)` 1.3 times; they nest.
`BREAK` begins a new window of tokens. A backslash makes the next bracket a letter. A bracket that is never
closed counts to the end.
"""

from __future__ import annotations

import re
from typing import NamedTuple

STEP = 1.1
LOWEST, HIGHEST = 0.0, 4.0
"""Beyond, pictures fall apart; a weight is brought back to these, and a note says so."""

_MARK = re.compile(
    r"\\[()\[\]\\]"  # an escaped letter
    r"|[(\[]"
    r"|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)"  # the end of `(words:1.3)`
    r"|[)\]]"
    r"|\s*\bBREAK\b\s*"
)


class Piece(NamedTuple):
    """Words of one weight. `text` None: a new window begins."""

    text: str | None
    weight: float = 1.0


def pieces_of(prompt: str) -> list[Piece]:
    """In their order, neighbours of equal weight joined. Never empty."""
    found: list[list[Piece]] = [[]]  # for each open bracket, its content
    opened: list[str] = []
    at = 0

    def add(text: str) -> None:
        if text:
            found[-1].append(Piece(text))

    def close(factor: float) -> None:
        inner = [Piece(p.text, p.weight * factor) for p in found.pop()]
        opened.pop()
        found[-1] += inner

    for mark in _MARK.finditer(prompt):
        add(prompt[at : mark.start()])
        at, text = mark.end(), mark[0]
        if text[0] == "\\":
            add(text[1])
        elif text in "([":
            opened.append(text)
            found.append([])
        elif text.strip() == "BREAK":
            found[-1].append(Piece(None))
        elif text == "]" and opened and opened[-1] == "[":
            close(1 / STEP)
        elif text != "]" and opened and opened[-1] == "(":
            close(STEP if mark[1] is None else float(mark[1]))
        else:
            add(text)
    add(prompt[at:])
    while opened:
        close(STEP if opened[-1] == "(" else 1 / STEP)
    return _joined(found[0]) or [Piece("")]


def is_extreme(prompt: str) -> bool:
    """Whether a weight is out of bounds."""
    return any(not LOWEST <= piece.weight <= HIGHEST for piece in pieces_of(prompt))


def bounded(weight: float) -> float:
    return min(max(weight, LOWEST), HIGHEST)


def _joined(pieces: list[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last and None not in (last.text, piece.text) and last.weight == piece.weight:
            joined[-1] = Piece(f"{last.text}{piece.text}", piece.weight)
        else:
            joined.append(piece)
    return joined
