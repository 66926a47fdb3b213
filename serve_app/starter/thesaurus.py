"""Finds the nearest taught thing for the nouns of WordNet: by what both are a kind of.

It does not know what is drawn of them. Distance: Jiang and Conrath, "Semantic Similarity Based on Corpus
Statistics and Lexical Taxonomy", 1997, with the information content of WordNet itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .captions import Concept
from .wordnet import WordNet

# How much each counts. Chosen with other names of half of the concepts, each left out in turn.
RARE = 0.05  # of a noun's sense, by the logarithm of its share
SURE = 0.3  # that the thing is meant in this sense
SELDOM_TAUGHT = 0.2  # of things without a place among the concepts
FAR = 0.5  # beyond, nothing is named


@dataclass(frozen=True)
class Meant:
    """Senses of things: `synsets[row]` is one of `things[row]`, by `sure[row]` of 0 to 1. Rows of a thing
    follow each other."""

    synsets: tuple[str, ...]
    things: np.ndarray  # (rows,)
    sure: np.ndarray  # (rows,)


def nearest_things(
    net: WordNet,
    nouns: Sequence[str],
    meant: Meant,
    taught: int,
) -> dict[str, tuple[float, int]]:
    """Noun -> (distance, index of the nearest thing); `taught`: how many things are concepts, the first
    ones. Nouns that name nothing drawable are left out."""
    senses = {noun: net.senses(noun) for noun in nouns}
    wanted = sorted({number for found in senses.values() for number, _ in found})
    starts = np.flatnonzero(np.diff(meant.things, prepend=-1))
    things = meant.things[starts]
    doubt = SURE * (1 - meant.sure) + SELDOM_TAUGHT * (meant.things >= taught)
    apart = _Apart(net, meant.synsets)
    found: dict[str, tuple[float, int]] = {}
    for number in wanted:
        per_thing = np.minimum.reduceat(apart.of(number) + doubt, starts)
        best = int(per_thing.argmin())
        found[number] = float(per_thing[best]), int(things[best])
    return {
        noun: min(
            (found[number][0] - RARE * math.log(share), found[number][1]) for number, share in some
        )
        for noun, some in senses.items()
        if some
    }


class _Apart:
    """Jiang and Conrath's distance to many synsets at once."""

    def __init__(self, net: WordNet, synsets: Sequence[str]) -> None:
        self._net = net
        self._own = np.array([net.information[number] for number in synsets])
        below: dict[str, list[int]] = {}
        for row, number in enumerate(synsets):
            for above in net.above[number]:
                below.setdefault(above, []).append(row)
        self._below = {above: np.array(rows) for above, rows in below.items()}

    def of(self, number: str) -> np.ndarray:
        """(synsets,)"""
        shared = np.zeros(len(self._own))
        telling = self._net.information
        for above in sorted(self._net.above[number], key=lambda one: (telling[one], one)):
            if (rows := self._below.get(above)) is not None:
                shared[rows] = telling[above]
        return telling[number] + self._own - 2 * shared


def senses_of(net: WordNet, things: Sequence[Concept]) -> Meant:
    """A name's sense is the surer the more often the name is meant so, and the more alike it is to a sense
    of the thing's other names."""
    synsets: list[str] = []
    owners: list[int] = []
    sure: list[float] = []
    for index, thing in enumerate(things):
        found = [senses for name in thing.names if (senses := net.senses(name))]
        best: dict[str, float] = {}
        for row, senses in enumerate(found):
            others = [some for other, some in enumerate(found) if other != row]
            for number, share in senses:
                alike = sorted(
                    max(likeness(net, number, other) for other, _ in some) for some in others
                )
                agreed = float(np.mean(alike[-2:])) if alike else 0.0
                best[number] = max(best.get(number, 0.0), (share + agreed) / 2)
        synsets += best
        owners += [index] * len(best)
        sure += best.values()
    return Meant(tuple(synsets), np.array(owners), np.array(sure))


def likeness(net: WordNet, one: str, other: str) -> float:
    """From 0 to 1: Lin, "An Information-Theoretic Definition of Similarity", 1998."""
    telling = net.information
    shared = max((telling[both] for both in net.above[one] & net.above[other]), default=0.0)
    return 2 * shared / max(telling[one] + telling[other], 1e-9)
