"""Writes the vocabulary beside the weights: what was taught, and the nearest of it for other nouns.

It does not know who asks the vocabulary, nor what the UNet makes of a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .captions import Concept
from .sprites import CutOut
from .thesaurus import FAR, nearest_things, senses_of
from .vocabulary import Vocabulary, describing_words
from .wordnet import WordNet

NOUN = re.compile("[a-z]{2,}(?:[ -][a-z]{2,}){0,2}")  # what is looked up: up to three words


def write(weights: Path, net: WordNet, things: Sequence[Concept], taught: int) -> Vocabulary:
    """Writes vocabulary.npz into `weights`. The first `taught` of `things` are concepts."""
    bare = Vocabulary(tuple(things), describing_words(), {})
    nouns = [noun for noun in plain_nouns(net) if not bare.familiarity(noun).known]
    found = nearest_things(net, nouns, senses_of(net, things), taught)
    neighbours = {noun: thing for noun, (far, thing) in found.items() if far <= FAR}
    Vocabulary(bare.things, bare.describing, neighbours).save(weights)
    return Vocabulary.load(weights)


def plain_nouns(net: WordNet) -> list[str]:
    """What WordNet writes in small letters: no names of persons, places or families of plants."""
    words = {word for synset in net.synsets.values() for word in synset.words}
    return sorted(noun for word in words if NOUN.fullmatch(noun := word.replace("_", " ")))


def spoken(things: Sequence[Concept]) -> list[Concept]:
    """`wolf face` is said `wolf`, unless there is a whole wolf as well."""
    labels = {thing.names[0] for thing in things}

    def short(label: str) -> str:
        said = label.removesuffix(" face")
        return label if said in labels else said

    return [Concept((short(thing.names[0]), *thing.names[1:])) for thing in things]


def rendered(about: Sequence[CutOut], things: Sequence[Concept]) -> list[Concept]:
    """What else the rendered pictures show: taught less often, but taught."""
    known = {name for thing in things for name in thing.names}
    found = (one.names[0] for one in about if one.look == "3d" and not one.concept)
    return [Concept((name,)) for name in sorted({*found} - known)]
