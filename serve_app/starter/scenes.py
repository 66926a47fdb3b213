"""Chooses what training pictures show and what is said of each: style, looks, colour, number, place.

It does not know pixels or networks. Nothing that free_prompts.yaml asks for is ever chosen.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from .captions import (
    ADJECTIVES,
    GROUNDS,
    NOTHING,
    NUMBERS,
    SIZES,
    STYLE_PHRASES,
    plural,
    styled,
    with_article,
)
from .compose import DARK, Scenes
from .held_out import HeldOut
from .inks import INKS
from .sprites import Sprites

STYLE_SHARES = {
    "icon": 0.40,
    "flat": 0.14,
    "silhouette": 0.10,
    "pixel_icon": 0.17,
    "pixel_character": 0.11,
    "tile": 0.08,
}
# (look, how it is drawn: 0 as it is, 1 outlines filled, 2 and shaded) -> share of its style
LOOK_SHARES: dict[str, dict[tuple[str, int], float]] = {
    "icon": {("3d", 0): 0.6, ("colour", 0): 0.2, ("game", 2): 0.2},
    "flat": {("flat", 0): 0.4, ("noto", 0): 0.35, ("game", 1): 0.25},
    "silhouette": {("game", 0): 0.65, ("contrast", 0): 0.35},
    "pixel_icon": {
        ("crawl", 0): 0.45,
        ("3d", 0): 0.08,
        ("flat", 0): 0.13,
        ("noto", 0): 0.12,
        ("game", 2): 0.22,
    },
    "pixel_character": {("crawl", 0): 1.0},
    "tile": {("crawl", 0): 1.0},
}
KNOWN_WEIGHT = 5.0  # how much likelier the only picture of a concept of vocabulary.txt is


@dataclass(frozen=True)
class Shares:
    """How often training pictures differ from a sprite as it is."""

    inked: float = 0.22
    sized: float = 0.06
    grounded: float = 0.05
    paired: float = 0.13
    counted: float = 0.04
    tagged: float = 0.06
    empty_adjective: float = 0.08
    silent: float = 0.10  # captions dropped, for guidance
    twice_named: float = 0.25  # captions given twice, in other words


class Planner:
    """Plans scenes at random from one seed."""

    def __init__(
        self, sprites: Sprites, held_out: HeldOut, seed: int, shares: Shares | None = None
    ) -> None:
        self.about, self.held_out = sprites.about, held_out
        self.shares = shares or Shares()
        self.draw = random.Random(seed)
        self.pools, self.weights = self._pools()
        self.styles = [s for s in STYLE_SHARES if self.pools.get(s)]
        self.grounds = {
            "grass": self._tiles("grass floor", "grass"),
            "stone": self._tiles("cobble", "pebble", "grey dirt", "rect"),
        }
        self.style_weights = [STYLE_SHARES[s] for s in self.styles]

    def _tiles(self, *words: str) -> list[int]:
        return [
            row
            for row, one in enumerate(self.about)
            if one.style == "tile"
            and "floor" in one.names
            and any(w in one.names[0] for w in words)
        ]

    def _pools(self) -> tuple[dict[str, dict[tuple[str, int], list[int]]], dict[int, list[float]]]:
        """For each style and look, the rows that may be drawn so and their running weights."""
        by_look: dict[str, list[int]] = defaultdict(list)
        for row, one in enumerate(self.about):
            by_look[one.look].append(row)
        iconic = {n for row in by_look["3d"] for n in self.about[row].names}
        pools: dict[str, dict[tuple[str, int], list[int]]] = {}
        weights: dict[int, list[float]] = {}
        for style, looks in LOOK_SHARES.items():
            pools[style] = {}
            for (look, drawn), _ in looks.items():
                rows = [
                    row
                    for row in by_look[look]
                    if (style, self.about[row].concept) not in self.held_out.styles
                    and (look != "crawl" or self.about[row].style == style)
                    # What a rendered picture shows needs no coloured outline.
                    and not (style == "icon" and drawn and self.about[row].names[0] in iconic)
                ]
                if rows:
                    pools[style][look, drawn] = rows
                    weights[id(rows)] = np.cumsum(self._weights(rows)).tolist()
        return {style: looks for style, looks in pools.items() if looks}, weights

    def _weights(self, rows: list[int]) -> list[float]:
        """Thirty swords weigh more than one wolf, but not thirty times as much."""
        alike = Counter(self.about[row].concept for row in rows)
        return [
            KNOWN_WEIGHT / alike[concept] ** 0.5 if concept else 1.0
            for concept in (self.about[row].concept for row in rows)
        ]

    def plan(self, count: int) -> tuple[Scenes, list[str], list[str]]:
        """`count` scenes, a caption for each, and other captions of the first of them."""
        scenes = Scenes.empty(count)
        again = int(count * self.shares.twice_named)
        captions: list[str] = []
        others: list[str] = []
        for number in range(count):
            said = self._scene(scenes, number)
            silent = self.draw.random() < self.shares.silent
            captions.append(self.draw.choice(NOTHING) if silent else said())
            if number < again:
                others.append(captions[-1] if silent else said())
        return scenes, captions, others

    def _scene(self, scenes: Scenes, number: int) -> Saying:
        draw, shares = self.draw, self.shares
        style = draw.choices(self.styles, self.style_weights)[0]
        looks = self.pools[style]
        look, drawn = draw.choices(list(looks), [LOOK_SHARES[style][key] for key in looks])[0]
        rows = looks[look, drawn]
        scenes.pixelated[number] = style.startswith("pixel")
        scenes.modelled[number] = drawn
        scenes.style[number] = style
        if style == "tile":
            return self._tile(scenes, number, self._one(rows))
        kind = draw.random()
        several = style != "pixel_character"
        if several and kind < shares.paired:
            said = self._pair(scenes, number, rows, style)
        elif several and kind < shares.paired + shares.counted:
            said = self._counted(scenes, number, self._one(rows), style)
        else:
            said = self._single(scenes, number, self._one(rows), style)
        ground = None
        if style != "silhouette" and draw.random() < shares.grounded:
            ground = draw.choice([g for g in GROUNDS if g == "dark" or self.grounds[g]])
            scenes.ground[number] = DARK if ground == "dark" else draw.choice(self.grounds[ground])
        return Saying(said, style, ground, draw)

    def _one(self, rows: list[int]) -> int:
        return self.draw.choices(rows, cum_weights=self.weights[id(rows)])[0]

    def _tile(self, scenes: Scenes, number: int, row: int) -> Saying:
        scenes.sprite[number, 0] = row
        scenes.roll[number] = self.draw.randrange(32) * 4, self.draw.randrange(32) * 4
        scenes.pixelated[number] = True
        return Saying(_Thing(self.about[row].names, (), "", self.draw, 0), "tile", None, self.draw)

    def _single(self, scenes: Scenes, number: int, row: int, style: str) -> _Thing:
        draw = self.draw
        sized = draw.choice(list(SIZES)) if draw.random() < self.shares.sized else ""
        scale = {"small": draw.uniform(0.42, 0.55), "big": 0.98}.get(
            sized, draw.uniform(0.82, 0.93)
        )
        shift = (0.0, 0.0)
        if self.about[row].size != 128:  # pixel art stays on its grid
            scale = 1.0 if sized != "small" else 0.5
        elif not sized:
            shift = draw.uniform(-3, 3), draw.uniform(-3, 3)
        return self._place(scenes, number, 0, row, scale, shift, sized)

    def _pair(self, scenes: Scenes, number: int, rows: list[int], style: str) -> _Pair | _Thing:
        one, two = self._one(rows), self._one(rows)
        labels = frozenset((self.about[one].concept, self.about[two].concept))
        if set(self.about[one].names) & set(self.about[two].names) or labels in self.held_out.pairs:
            return self._single(scenes, number, one, style)
        scale = self.draw.uniform(0.44, 0.52)
        left = self._place(scenes, number, 0, one, scale, (-31, self.draw.uniform(-8, 8)), "")
        right = self._place(scenes, number, 1, two, scale, (31, self.draw.uniform(-8, 8)), "")
        return _Pair(left, right, self.draw)

    def _counted(self, scenes: Scenes, number: int, row: int, style: str) -> _Thing:
        count = self.draw.choice(list(NUMBERS))
        scale = 0.5 if count == 2 else self.draw.uniform(0.42, 0.46)
        places = {2: ((-31, 0), (31, 0)), 3: ((-32, 26), (32, 26), (0, -28))}[count]
        thing = None
        for slot, place in enumerate(places):
            if thing is None:
                thing = self._place(scenes, number, slot, row, scale, place, "", count)
            else:
                for field in (scenes.sprite, scenes.scale, scenes.mirror, scenes.ink):
                    field[number, slot] = field[number, 0]
                scenes.shift[number, slot] = place
        assert thing is not None
        return thing

    def _place(
        self,
        scenes: Scenes,
        number: int,
        slot: int,
        row: int,
        scale: float,
        shift: tuple[float, float],
        sized: str,
        count: int = 1,
    ) -> _Thing:
        draw, about = self.draw, self.about[row]
        scenes.sprite[number, slot] = row
        scenes.scale[number, slot] = scale
        scenes.shift[number, slot] = shift
        scenes.mirror[number, slot] = draw.random() < 0.5
        words: list[tuple[str, ...]] = []
        if draw.random() < self.shares.inked:
            ink = draw.randrange(len(INKS))
            if (INKS[ink].name, about.concept) not in self.held_out.attributes:
                scenes.ink[number, slot] = ink
                words.append(INKS[ink].words)
        if sized:
            words.insert(0, SIZES[sized])
        elif draw.random() < self.shares.empty_adjective:
            words.insert(0, ADJECTIVES)
        tag = draw.choice(about.tags) if about.tags and draw.random() < self.shares.tagged else ""
        return _Thing(about.names, tuple(words), tag, draw, count)


@dataclass(frozen=True)
class _Thing:
    """One object in words: adjectives to choose from, a name, how many; 0: uncountable."""

    names: tuple[str, ...]
    adjectives: tuple[tuple[str, ...], ...]
    tag: str
    draw: random.Random
    count: int = 1

    def __call__(self) -> str:
        draw = self.draw
        name = self.names[0] if draw.random() < 0.4 else draw.choice(self.names)
        words = " ".join([*(draw.choice(some) for some in self.adjectives), name])
        if self.count > 1:
            said = f"{draw.choice(NUMBERS[self.count])} {plural(words)}"
        else:
            said = words if self.count == 0 else with_article(words, draw)
        return f"{said}, {self.tag}" if self.tag else said


@dataclass(frozen=True)
class _Pair:
    left: _Thing
    right: _Thing
    draw: random.Random

    def __call__(self) -> str:
        return f"{self.left()} {self.draw.choice(('and', 'and', 'and', 'next to', 'with'))} {self.right()}"


@dataclass(frozen=True)
class Saying:
    """Says a scene in other words each time."""

    what: _Thing | _Pair
    style: str
    ground: str | None
    draw: random.Random

    def __call__(self) -> str:
        said = self.what()
        if self.ground:
            said = self.draw.choice(GROUNDS[self.ground]).format(said)
        phrases = STYLE_PHRASES[self.style]
        phrase = phrases[0] if self.draw.random() < 0.25 else self.draw.choice(phrases)
        return styled(said, phrase)
