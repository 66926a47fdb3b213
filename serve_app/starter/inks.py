"""Colours and materials: the words that name each, and how a sprite is painted with it.

It does not know which sprite is painted; painting itself is in compose.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ink:
    """Either `hue` (degrees): the picture's main hue turns there. Or `ramp`: colours from dark to
    bright that replace it, after `texture` (stone, grain, patches) was laid over its brightness."""

    name: str
    words: tuple[str, ...]
    hue: float | None = None
    ramp: tuple[str, ...] = ()
    texture: str = ""
    glow: str = ""  # colour of the light around it


HUES = {"red": 0, "orange": 28, "yellow": 50, "green": 120, "blue": 215, "purple": 275, "pink": 330}
# What a coloured thing without a picture of its own is painted with.
HUE_RAMPS = {
    "red": ("#3d0508", "#8f1218", "#d7262b", "#f4605c", "#ffc1b8"),
    "orange": ("#451a02", "#9a4406", "#ec7d14", "#fba648", "#ffe0b5"),
    "yellow": ("#4a3703", "#a27b08", "#efc11d", "#fbdd62", "#fff4c2"),
    "green": ("#06300f", "#14682a", "#2fa848", "#72d17f", "#cdf5cf"),
    "blue": ("#06194a", "#14409a", "#2f78e0", "#74abf5", "#cfe3ff"),
    "purple": ("#260a4a", "#54209a", "#8f48dd", "#b986f2", "#e6d3ff"),
    "pink": ("#4a0a2c", "#a0266a", "#ee5aa5", "#f994c8", "#ffd9ec"),
}
INKS = (
    *(Ink(name, (name,), hue=float(degrees)) for name, degrees in HUES.items()),
    Ink("black", ("black",), ramp=("#000000", "#0f0f12", "#222228", "#3d3d45", "#7a7a85")),
    Ink("white", ("white",), ramp=("#8f9499", "#c9cdd1", "#e9ebed", "#f7f8f9", "#ffffff")),
    Ink("grey", ("grey", "gray"), ramp=("#26282b", "#55585c", "#85898e", "#b3b7bb", "#e3e6e8")),
    Ink("brown", ("brown",), ramp=("#1f0f05", "#4d2a12", "#7d4a24", "#aa7443", "#d8b184")),
    Ink("golden", ("golden", "gold"), ramp=("#4a2503", "#a4680c", "#e8b022", "#ffdb5c", "#fff6c8")),
    Ink("silver", ("silver",), ramp=("#3a3e45", "#757b85", "#b1b7c0", "#dfe3e8", "#ffffff")),
    Ink("iron", ("iron", "steel"), ramp=("#15171a", "#3a3e44", "#62676f", "#8f959d", "#c8ccd2")),
    Ink(
        "bronze", ("bronze", "copper"), ramp=("#2f1206", "#743916", "#b56a32", "#dfa063", "#ffdcb0")
    ),
    Ink(
        "icy",
        ("icy", "ice", "frozen", "frosty"),
        ramp=("#0c3b78", "#2c83c4", "#78c8ee", "#c2edfb", "#ffffff"),
        glow="#d5f3ff",
    ),
    Ink(
        "flaming",
        ("flaming", "fiery", "burning", "fire"),
        ramp=("#4a0500", "#b71f00", "#f75c03", "#ffa81f", "#fff3a0"),
        glow="#ff7a1a",
    ),
    Ink(
        "wooden",
        ("wooden", "wood"),
        ramp=("#2b1606", "#5f3713", "#935e2a", "#bd8949", "#e3bd83"),
        texture="grain",
    ),
    Ink(
        "stone",
        ("stone", "rocky"),
        ramp=("#2b2a28", "#5b5955", "#868380", "#b0ada8", "#dad7d2"),
        texture="stone",
    ),
    Ink(
        "rusty",
        ("rusty", "rusted"),
        ramp=("#241009", "#5c2a12", "#96501f", "#a9784f", "#b9b1aa"),
        texture="patches",
    ),
    Ink(
        "poison", ("poison", "toxic"), ramp=("#0b1f04", "#2b6b0b", "#63bf1a", "#a8ea3c", "#efffb0")
    ),
)
BY_NAME = {ink.name: number for number, ink in enumerate(INKS)}
# What drawings that are only an outline are coloured with where no word asks for a colour.
USUAL = (
    "golden",
    "iron",
    "silver",
    "bronze",
    "wooden",
    "brown",
    "grey",
    "red",
    "blue",
    "green",
    "purple",
)
TEXTURES = ("", "grain", "stone", "patches")
