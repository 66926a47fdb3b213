"""Names and styles for a folder of 32x32 game tiles, and figures put together from its layers.

It does not know the other picture sets. Layout and names are those of the Crawl tiles (CC0).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from .errors import RecipeError

SIDE = 32
FIGURES = 700  # put together from player layers

# folder -> (style, word that its file names leave out)
FOLDERS = {
    "item/potion": ("pixel_icon", "potion"),
    "item/ring": ("pixel_icon", "ring"),
    "item/amulet": ("pixel_icon", "amulet"),
    "item/scroll": ("pixel_icon", "scroll"),
    "item/wand": ("pixel_icon", "wand"),
    "item/rod": ("pixel_icon", "rod"),
    "item/staff": ("pixel_icon", "staff"),
    "item/book": ("pixel_icon", "book"),
    "item/gold": ("pixel_icon", "gold coins"),
    "item/food": ("pixel_icon", ""),
    "item/misc": ("pixel_icon", ""),
    "item/misc/runes": ("pixel_icon", "rune"),
    "item/weapon": ("pixel_icon", ""),
    "item/weapon/artefact": ("pixel_icon", ""),
    "item/weapon/ranged": ("pixel_icon", ""),
    "item/armour": ("pixel_icon", ""),
    "item/armour/artefact": ("pixel_icon", ""),
    "item/armour/headgear": ("pixel_icon", ""),
    "item/armour/shields": ("pixel_icon", ""),
    "UNUSED/weapons": ("pixel_icon", ""),
    "UNUSED/armour": ("pixel_icon", ""),
    "UNUSED/food": ("pixel_icon", ""),
    "effect": ("pixel_icon", "effect"),
    "dngn": ("pixel_icon", ""),
    "dngn/altars": ("pixel_icon", "altar"),
    "dngn/doors": ("pixel_icon", "door"),
    "dngn/gateways": ("pixel_icon", "portal"),
    "dngn/shops": ("pixel_icon", "shop"),
    "dngn/statues": ("pixel_icon", "statue"),
    "dngn/traps": ("pixel_icon", "trap"),
    "dngn/trees": ("pixel_icon", "tree"),
    "mon": ("pixel_character", ""),
    "mon/amorphous": ("pixel_character", ""),
    "mon/animals": ("pixel_character", ""),
    "mon/aquatic": ("pixel_character", ""),
    "mon/demons": ("pixel_character", "demon"),
    "mon/demonspawn": ("pixel_character", ""),
    "mon/draco": ("pixel_character", "draconian"),
    "mon/dragons": ("pixel_character", ""),
    "mon/eyes": ("pixel_character", ""),
    "mon/fungi_plants": ("pixel_character", ""),
    "mon/holy": ("pixel_character", ""),
    "mon/nonliving": ("pixel_character", ""),
    "mon/spriggan": ("pixel_character", "spriggan"),
    "mon/statues": ("pixel_character", "statue"),
    "mon/undead": ("pixel_character", ""),
    "mon/undead/simulacra": ("pixel_character", "ice"),
    "mon/undead/skeletons": ("pixel_character", "skeleton"),
    "mon/undead/spectrals": ("pixel_character", "spectral"),
    "mon/undead/zombies": ("pixel_character", "zombie"),
    "UNUSED/monsters": ("pixel_character", ""),
    "dngn/floor": ("tile", "floor"),
    "dngn/floor/grass": ("tile", "floor"),
    "dngn/wall": ("tile", "wall"),
    "dngn/water": ("tile", "water"),
}
PARTS = re.compile(r"^(i-|.*(_(n|e|s|w|ne|nw|se|sw)\d*$|shadow|overlay|label|mask))")
NOT_A_NAME = re.compile(r"\b(urand|spwpn|misc|dngn|mons?|new|old|art|ego|left|right|top|darker)\b")
RACES = {
    "human": "human", "elf": "elf", "dwarf": "dwarf", "kobold": "kobold", "halfling": "halfling",
    "gnome": "gnome", "lorc": "orc", "minotaur": "minotaur", "mummy": "mummy", "demonspawn": "demon",
    "vampire": "vampire", "tengu": "birdman", "centaur": "centaur", "naga": "naga",
    "draconian": "draconian", "ghoul2": "ghoul",
}  # fmt: skip
WEAPONS = {
    "long_sword_slant": "sword", "great_sword_slant": "greatsword", "battleaxe": "axe",
    "war_axe": "axe", "bow": "bow", "spear": "spear", "mace": "mace", "staff_mage": "staff",
    "staff_fancy": "staff", "dagger_slant": "dagger", "trident": "trident", "scythe": "scythe",
    "club": "club", "halberd": "halberd", "whip": "whip", "hammer": "hammer", "": "",
}  # fmt: skip


def tile_sprites(folder: Path) -> Iterator[tuple[str, tuple[str, ...], Image.Image]]:
    """Style, names and picture of every tile that stands alone, and of put-together figures.

    Raises RecipeError if `folder` holds none of the expected folders.
    """
    root = next((p.parent for p in sorted(folder.rglob("dngn"))), None)
    if root is None:
        raise RecipeError(f"{folder} holds no tiles: expected folders like item/weapon and dngn")
    for place, (style, noun) in FOLDERS.items():
        for path in sorted((root / place).glob("*.png")):
            image = Image.open(path).convert("RGBA")
            if image.size == (SIDE, SIDE) and not PARTS.match(path.stem):
                yield style, names_of(path.stem, noun), image
    yield from _figures(root / "player")


def names_of(stem: str, noun: str) -> tuple[str, ...]:
    """`brilliant_blue`, `potion` -> `brilliant blue potion`, `potion`."""
    words = re.sub(r"[\d_-]+", " ", stem.lower()).strip()
    words = re.sub(r"\s+", " ", NOT_A_NAME.sub(" ", words)).strip()
    if not noun or noun in words:
        return (words, noun) if noun and noun != words else (words,)
    joined = f"{noun} {words}" if noun in ("ice", "spectral") else f"{words} {noun}"
    return (joined.strip(), noun)


def _figures(player: Path) -> Iterator[tuple[str, tuple[str, ...], Image.Image]]:
    """A body of some race with clothes, hair or a helmet, a weapon and perhaps a shield."""
    draw = random.Random(0)

    def some(layer: str, pattern: str = "*") -> Path | None:
        found = sorted((player / layer).glob(f"{pattern}.png"))
        return draw.choice(found) if found else None

    if some("base") is None:
        return
    for _ in range(FIGURES):
        race = draw.choice(list(RACES))
        weapon = draw.choice(list(WEAPONS))
        helmet, shield, cloak = draw.random() < 0.4, draw.random() < 0.35, draw.random() < 0.35
        robe = weapon.startswith("staff")
        four_legged = race in ("centaur", "naga")
        layers = [
            some("cloak") if cloak else None,
            some("base", f"{race}_*"),
            None if four_legged else some("boots"),
            None if four_legged else some("legs"),
            some("body", "robe*" if robe else "*"),
            some("hand1", f"{weapon}*") if weapon else None,
            some("hand2", "shield*") if shield else None,
            some("head", "wizard*" if robe else "hel*") if helmet or robe else some("hair"),
        ]
        figure = Image.new("RGBA", (SIDE, SIDE))
        for layer in layers:
            if layer is not None:
                part = Image.open(layer).convert("RGBA")
                if part.size == figure.size:
                    figure.alpha_composite(part)
        yield "pixel_character", _figure_names(RACES[race], WEAPONS[weapon], shield, robe), figure


def _figure_names(race: str, weapon: str, shield: bool, robe: bool) -> tuple[str, ...]:
    kind = "wizard" if robe else "warrior" if weapon else "adventurer"
    carried = " and ".join(f"a {thing}" for thing in (weapon, "shield" if shield else "") if thing)
    whole = f"{race} {kind}" + (f" with {carried}" if carried else "")
    return (whole, f"{race} {kind}", race, kind)
