"""Words for pictures: the vocabulary's names, and the phrases that say style, number and ground.

It does not know pictures or text encoders.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import RecipeError

MAX_TAG_SHARE = 2  # a tag that more concepts carry says too little about one of them
# {} is what the picture shows. The first of each style is what the service's style appends.
STYLE_PHRASES = {
    "icon": (
        "{}, game icon", "{}", "{}", "{}", "{}, 3d icon", "{}, game asset", "{}, 3d render",
        "an icon of {}", "{} icon", "{}, game icon, centered, plain background", "3d {}",
    ),
    "flat": (
        "{}, flat icon", "{}, flat", "a flat icon of {}", "{}, flat vector icon", "{}, flat design",
        "flat {}", "{}, flat style, plain background",
    ),
    "silhouette": (
        "{}, silhouette", "silhouette of {}", "{}, black silhouette", "{} silhouette",
        "{}, silhouette, glyph icon", "a silhouette of {}",
    ),
    "pixel_icon": (
        "{}, pixel art icon", "{}, pixel art", "pixel art {}", "{}, pixel art item",
        "pixel art of {}", "{}, pixelated", "{}, 8-bit pixel art",
    ),
    "pixel_character": (
        "{}, pixel art character", "{}, pixel art", "pixel art {}", "{}, pixel art sprite",
        "pixel art of {}", "{}, pixel art monster", "{}, 8-bit pixel art",
    ),
    "tile": (
        "{}, seamless tile", "{} tile", "{}, tile", "{} texture, seamless tile", "tile of {}",
        "{}, game tile, top-down", "{}, pixel art tile",
    ),
}  # fmt: skip
GROUNDS = {
    "grass": ("{} on grass", "{} on a grass ground", "{} on green grass"),
    "stone": ("{} on a stone floor", "{} on stone", "{} on a stone ground"),
    "dark": ("{} on a dark background", "{} on black", "{} on a dark ground"),
}
SIZES = {"small": ("small", "tiny", "little"), "big": ("big", "huge", "large")}
NUMBERS = {2: ("two", "a pair of", "2"), 3: ("three", "3", "some")}
# Said of any picture, so that they change nothing.
ADJECTIVES = ("magic", "ancient", "shiny", "legendary", "cartoon", "cute", "simple", "rare", "old")
# Said beside any picture, so that a negative prompt of this kind acts like an empty one.
NOTHING = ("", "", "", "blurry", "low quality, text, watermark", "blurry, cropped, deformed, frame")


@dataclass(frozen=True)
class Concept:
    """`names[0]` is the label of the picture; the others mean the same."""

    names: tuple[str, ...]


def read_vocabulary(text: str) -> list[Concept]:
    """Lines `label = other name, other name`; `#` opens a comment."""
    vocabulary: list[Concept] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            label, _, aliases = line.partition("=")
            names = [label.strip(), *(part.strip() for part in aliases.split(","))]
            if not names[0]:
                raise RecipeError(f"vocabulary.txt, line {number}: no name before the `=`")
            vocabulary.append(Concept(tuple(n for n in names if n)))
    return vocabulary


def telling_tags(tags: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Of each picture's tags, the words that few others share."""
    count = Counter(tag for row in tags for tag in set(row))
    return [
        tuple(t for t in row if t.isalpha() and len(t) > 2 and count[t] <= MAX_TAG_SHARE)
        for row in tags
    ]


def with_article(words: str, draw: random.Random) -> str:
    """`a sword`, `the sword` or `sword`."""
    kind = draw.random()
    if kind < 0.45:
        return words
    if kind < 0.55:
        return f"the {words}"
    return f"{'an' if words[:1] in 'aeiou' else 'a'} {words}"


def plural(noun: str) -> str:
    if noun.endswith("s"):
        return noun
    if noun.endswith(("sh", "ch", "x", "z")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def styled(said: str, phrase: str) -> str:
    """`said` in a phrase of STYLE_PHRASES; no article in the middle, like `pixel art a sword`."""
    if not phrase.startswith("{}") and " of {}" not in phrase:
        for article in ("a ", "an ", "the "):
            said = said.removeprefix(article)
    return phrase.format(said)
