"""What is said about a picture while training: its names, its colour, and the words a service adds.

It does not know pictures or text encoders.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

# degrees on the colour wheel
COLOURS = {
    "red": 0,
    "orange": 28,
    "yellow": 50,
    "green": 120,
    "blue": 215,
    "purple": 275,
    "pink": 330,
}
NATURAL = "natural"

PREFIXES = ("", "", "a ", "a ", "the ", "an icon of a ", "a picture of a ")
SUFFIXES = (
    "",
    "",
    "",
    ", game icon",
    ", game asset",
    ", 3d render",
    ", game icon, centered, plain background",
    ", game item, centered, white background",
    " icon",
    ", glossy, single object, plain background",
)
# Said of any picture, so that they change nothing.
ADJECTIVES = (
    "magic", "ancient", "shiny", "small", "big", "legendary", "cartoon", "cute", "simple", "rare",
)  # fmt: skip
# Said beside any picture, so that a negative prompt of this kind acts like an empty one.
NOTHING = ("", "", "", "blurry", "low quality, text, watermark", "blurry, cropped, deformed, frame")
MAX_TAG_SHARE = 2  # a tag that more concepts carry says too little about one of them


@dataclass(frozen=True)
class Concept:
    """`names[0]` is the label of the picture; the others mean the same. `tags` only hint at it."""

    names: tuple[str, ...]
    tags: tuple[str, ...]


def read_vocabulary(text: str) -> list[Concept]:
    """Lines `label = other name, other name`; `#` opens a comment."""
    vocabulary = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            label, _, aliases = line.partition("=")
            names = [label.strip(), *(part.strip() for part in aliases.split(","))]
            vocabulary.append(Concept(tuple(n for n in names if n), ()))
    return vocabulary


def telling_tags(tags: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Of each concept's tags, the words that few other concepts share."""
    count = Counter(tag for row in tags for tag in set(row))
    return [
        tuple(t for t in row if t.isalpha() and len(t) > 2 and count[t] <= MAX_TAG_SHARE)
        for row in tags
    ]


def captions_of(concept: Concept, colour: str, count: int, draw: random.Random) -> list[str]:
    """Every name as it is, and `count` ways to ask for `concept` in `colour`."""
    plain = [said for n in concept.names for said in (n, f"a {n}")] if colour == NATURAL else []
    return plain + [_caption(concept, colour, draw) for _ in range(count)]


def _caption(concept: Concept, colour: str, draw: random.Random) -> str:
    name = concept.names[0] if draw.random() < 0.35 else draw.choice(concept.names)
    if draw.random() < 0.15:
        name = f"{draw.choice(ADJECTIVES)} {name}"
    said = name if colour == NATURAL else f"{colour} {name}"
    kind = draw.random()
    if concept.tags and kind < 0.2:
        return f"{said}, {draw.choice(concept.tags)}"
    return draw.choice(PREFIXES) + said + draw.choice(SUFFIXES)
