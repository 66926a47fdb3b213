"""The 120 free prompts, and what the recipe must keep out of its captions for them.

It does not know pictures or networks. The prompts: free_prompts.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

PROMPTS = Path(__file__).with_name("free_prompts.yaml")


@dataclass(frozen=True)
class FreePrompt:
    prompt: str
    noun: tuple[str, ...]  # labels that the judge may name
    attribute: str = ""  # a colour or material that must show
    second: tuple[str, ...] = ()  # labels that the other half of the picture may show
    style: str = ""

    @property
    def word(self) -> str:
        """The noun of the prompt as it is written, without its article and style."""
        said = self.prompt.split(",")[0].removeprefix("a pair of ")
        return said.removeprefix("a ").removeprefix("an ")


@dataclass(frozen=True)
class HeldOut:
    """All of it, by kind: attribute, pair, unseen_noun, style."""

    kinds: dict[str, list[FreePrompt]]

    @classmethod
    def load(cls, path: Path = PROMPTS) -> HeldOut:
        content: dict[str, list[dict[str, Any]]] = yaml.safe_load(path.read_text())
        return cls(
            {
                kind: [
                    FreePrompt(
                        one["prompt"],
                        tuple(one["noun"]),
                        one.get("attribute", ""),
                        tuple(one.get("second", ())),
                        one.get("style", ""),
                    )
                    for one in prompts
                ]
                for kind, prompts in content.items()
            }
        )

    @classmethod
    def nothing(cls) -> HeldOut:
        return cls({})

    @cached_property
    def words(self) -> frozenset[str]:
        """Nouns that no caption may hold."""
        return frozenset(p.word for p in self.kinds.get("unseen_noun", ()))

    @cached_property
    def attributes(self) -> frozenset[tuple[str, str]]:
        """(attribute, label of the concept) that no picture may show."""
        return frozenset((p.attribute, n) for p in self.kinds.get("attribute", ()) for n in p.noun)

    @cached_property
    def pairs(self) -> frozenset[frozenset[str]]:
        """Labels of two concepts that no picture may show side by side."""
        return frozenset(
            frozenset((one, two))
            for p in self.kinds.get("pair", ())
            for one in p.noun
            for two in p.second
        )

    @cached_property
    def styles(self) -> frozenset[tuple[str, str]]:
        """(style, label of the concept) that no picture may show."""
        return frozenset((p.style, n) for p in self.kinds.get("style", ()) for n in p.noun)

    def says_unseen(self, name: str) -> bool:
        """Does `name` hold a word kept out, or all the words of a kept attribute and noun?"""
        words = {form for word in name.split() for form in (word, word.removesuffix("s"))}
        if not self.words.isdisjoint(words):
            return True
        asked = ({p.attribute, *p.word.split()} for p in self.kinds.get("attribute", ()))
        return any(those <= words for those in asked)
