"""Markdown as the tests of the documentation read it: prose, names in backticks, tables, fences, links.

Knows Markdown only; nothing of what the documents are about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Cell:
    text: str
    names: tuple[str, ...]  # what stands in backticks


@dataclass(frozen=True)
class Table:
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def names(self) -> set[str]:
        """Of the first column."""
        return {name for row in self.rows for name in row[0].names}


@dataclass(frozen=True)
class Document:
    path: Path

    @cached_property
    def tokens(self) -> Sequence[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.path.read_text("utf-8"))

    @cached_property
    def lines(self) -> list[Sequence[Token]]:
        """The content of each heading, paragraph, item and cell."""
        return [token.children or [] for token in self.tokens if token.type == "inline"]

    @property
    def names(self) -> list[str]:
        """What stands in backticks, tables included."""
        return [t.content for line in self.lines for t in line if t.type == "code_inline"]

    @property
    def links(self) -> list[str]:
        """Where links lead, and what pictures show."""
        found = [t.attrGet("href") or t.attrGet("src") for line in self.lines for t in line]
        return [str(target) for target in found if target]

    @property
    def anchors(self) -> set[str]:
        """Of its headings, as GitHub makes them."""
        heads = [i + 1 for i, t in enumerate(self.tokens) if t.type == "heading_open"]
        texts = [_text(self.tokens[i].children or []) for i in heads]
        return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}

    def fences(self, language: str) -> list[str]:
        return [t.content for t in self.tokens if t.type == "fence" and t.info == language]

    @property
    def languages(self) -> set[str]:
        return {t.info for t in self.tokens if t.type == "fence"}

    @property
    def prose(self) -> str:
        """All that is read as sentences: no table, no fence, no picture's description."""
        inside, read = False, list[str]()
        for token in self.tokens:
            if token.type in ("table_open", "table_close"):
                inside = token.type == "table_open"
            elif token.type == "inline" and not inside:
                read.append(_text(token.children or []))
        return "\n".join(read)

    @cached_property
    def tables(self) -> list[Table]:
        found: list[Table] = []
        row: list[Cell] = []
        rows: list[tuple[Cell, ...]] = []
        for i, token in enumerate(self.tokens):
            match token.type:
                case "table_open":
                    rows = []
                case "tr_open":
                    row = []
                case "th_open" | "td_open":
                    line = self.tokens[i + 1].children or []
                    names = tuple(t.content for t in line if t.type == "code_inline")
                    row.append(Cell(_text(line), names))
                case "tr_close":
                    rows.append(tuple(row))
                case "table_close":
                    head, *rest = rows
                    found.append(Table(tuple(cell.text for cell in head), tuple(rest)))
                case _:
                    pass
        return found

    def table(self, head: str) -> Table:
        """The one whose first column is called so."""
        (found,) = [table for table in self.tables if table.head[0] == head]
        return found

    def steps(self) -> list[str]:
        """What each item of its numbered list begins with, in bold."""
        starts = [i for i, t in enumerate(self.tokens) if t.type == "list_item_open" and t.info]
        lines = [self.tokens[i + 2].children or [] for i in starts]
        return [line[line.index(_opening(line)) + 1].content for line in lines]


def commands(fence: str) -> Iterator[str]:
    """The commands of a shell fence, without comments; what a backslash continues is one line."""
    for line in fence.replace("\\\n", " ").splitlines():
        if text := re.sub(r"(^|\s)#.*", "", line).strip():
            yield text


def _opening(line: Sequence[Token]) -> Token:
    return next(token for token in line if token.type == "strong_open")


def _text(line: Sequence[Token]) -> str:
    shown = {"text", "code_inline"}
    return "".join(t.content if t.type in shown else " " * ("break" in t.type) for t in line)
