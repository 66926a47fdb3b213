"""Draws every picture of every set as a cut-out sprite, names it, and writes one file of them.

It does not know how sprites become training pictures, or networks.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

from . import sources
from .captions import Concept, read_vocabulary, telling_tags
from .errors import RecipeError
from .held_out import HeldOut
from .sprites import SIZE, CutOut, Sprites
from .text import shrink
from .tiles import tile_sprites

VOCABULARY = Path(__file__).with_name("vocabulary.txt")
# Which style each set of SVG pictures is drawn in.
SET_STYLES = {
    "colour": "icon",
    "flat": "flat",
    "noto": "flat",
    "contrast": "silhouette",
    "game": "silhouette",
}
OBJECT_GROUPS = (3, 4, 5, 6, 7)  # of emojibase: animals, food, travel, activities, objects
# Of the other groups, words of labels that games ask for.
OTHER_WORDS = {
    "skull", "ghost", "alien", "robot", "ogre", "goblin", "monster", "poo", "heart", "fire",
    "eye", "brain", "bone", "tooth", "mage", "fairy", "vampire", "merperson", "mermaid",
    "elf", "genie", "zombie", "ninja", "princess", "prince", "superhero", "supervillain",
    "astronaut", "detective", "guard", "firefighter", "farmer", "cook", "mechanic", "pilot",
    "judge", "artist", "troll", "mouth", "ear", "hand", "fist", "foot", "leg", "star",
    "warning", "radioactive", "biohazard", "atom", "yin", "peace", "trident", "anchor",
    "gear", "cross", "ankh", "om", "hundred", "bubble", "zzz", "sparkle", "recycling",
    "infinity"
}  # fmt: skip
NOT_OBJECTS = re.compile(
    r"^(abstract|card|tarot|rank|dice|plain-|circle-|clockwise|anticlockwise|letter|rupee|"
    r"histogram|logic-gate|network|files?$)|-tap$|-arrows?$"
)


def prepare(folder: Path, tiles: Path | None) -> Sprites:
    """Fetches what is missing, draws every picture, and writes `folder`/sprites.npz."""
    raw = folder / "raw"
    sources.fetch_sources(raw)
    vocabulary = ConceptNames.load(read_vocabulary(VOCABULARY.read_text()))
    found = list(_emoji_sprites(raw, vocabulary))
    found += _game_sprites(sources.svg_sets(raw)["game"])
    if tiles is not None:
        found += [
            (CutOut(style, "crawl", 32, names), image)
            for style, names, image in tile_sprites(sources.tile_folder(tiles, raw))
        ]
    sprites = collect(found, vocabulary, HeldOut.load())
    missing = vocabulary.labels - {one.concept for one in sprites.about}
    if missing:
        raise RecipeError(f"vocabulary.txt: no picture shows {sorted(missing)}")
    sprites.save(folder / "sprites.npz")
    shrink(sources.text_encoder_folder(folder), folder / "text_encoder")
    return sprites


@dataclass(frozen=True)
class ConceptNames:
    """Concepts by label and by every other name of theirs."""

    concepts: dict[str, Concept]
    by_name: dict[str, str]

    @classmethod
    def load(cls, concepts: Sequence[Concept]) -> ConceptNames:
        labels = {c.names[0]: c for c in concepts}
        by_name: dict[str, str] = {}
        for concept in concepts:
            for name in concept.names:
                by_name.setdefault(name, concept.names[0])
        return cls(labels, by_name | {label: label for label in labels})

    @property
    def labels(self) -> set[str]:
        return set(self.concepts)

    def concept(self, name: str) -> str:
        """The label that `name` is another name of, or whose first names its last word is; or ''."""
        if name in self.by_name:
            return self.by_name[name]
        words = name.split()
        ending = words[-1] if words else ""
        label = self.by_name.get(ending, "") or self.by_name.get(ending.removesuffix("s"), "")
        first = self.concepts[label].names[:2] if label else ()
        return label if ending in first or ending.removesuffix("s") in first else ""


def collect(
    found: Iterable[tuple[CutOut, Image.Image]], vocabulary: ConceptNames, held_out: HeldOut
) -> Sprites:
    """Encodes what may be shown in training; says what it leaves out and why."""
    about: list[CutOut] = []
    files: list[bytes] = []
    skipped: dict[str, list[str]] = {}
    for sprite, image in found:
        figure = sprite.style in ("pixel_character", "tile")  # "warrior with a shield" is no shield
        near = "" if figure else vocabulary.concept(sprite.names[0])
        concept = sprite.concept or near or vocabulary.by_name.get(sprite.names[0], "")
        names = [n for n in sprite.names if re.search("[a-z]", n) and not held_out.says_unseen(n)]
        if concept and not sprite.concept:
            spoken = vocabulary.concepts[concept].names[:2]
            names += [n for n in spoken if n not in names and not held_out.says_unseen(n)]
        reason = ""
        if not names:
            reason = "no words to say about it, or only words kept for the evaluation"
        elif (sprite.style, concept) in held_out.styles:
            reason = "kept for the evaluation"
        elif not shows_something(image, opaque=sprite.style == "tile"):
            reason = "one colour, or a tile with holes"
        if reason:
            skipped.setdefault(reason, []).append(sprite.names[0])
            continue
        kept = CutOut(sprite.style, sprite.look, sprite.size, tuple(names), sprite.tags, concept)
        about.append(kept)
        files.append(_encoded(image, sprite.size))
    for reason, names in skipped.items():
        print(f"left out, {reason}: {len(names)}, such as {', '.join(names[:5])}")
    return Sprites(about, files)


def shows_something(image: Image.Image, *, opaque: bool = False) -> bool:
    """More than one colour: an outline on nothing, or a texture."""
    pixels = np.asarray(image.convert("RGBA"))
    inked = pixels[..., 3] > 127
    if opaque and not inked.all():
        return False
    if inked.all():
        return bool(np.ptp(pixels[..., :3].reshape(-1, 3).astype(int), axis=0).max() > 8)
    return bool(inked.mean() > 0.01)


def _encoded(image: Image.Image, size: int) -> bytes:
    buffer = io.BytesIO()
    if size == SIZE:
        image.save(buffer, "WEBP", quality=82, method=4)
    else:
        image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def drawn_svg(body: str, size: tuple[int, int]) -> Image.Image:
    """An icon's inside as RGBA pixels, centred on SIZE x SIZE; without a colour of its own: black."""
    width, height = size
    side = max(width, height)
    box = f"{(width - side) / 2} {(height - side) / 2} {side} {side}"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{SIZE}" height="{SIZE}" color="#000">{body}</svg>'
    )
    return Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=svg))).convert("RGBA")


def _emoji_sprites(raw: Path, vocabulary: ConceptNames) -> Iterator[tuple[CutOut, Image.Image]]:
    entries = [e for e in sources.emoji_names(raw) if _wanted(e, vocabulary)]
    tags = telling_tags([entry.get("tags", []) for entry in entries])
    pictures, sets = sources.fluent_3d(raw), sources.svg_sets(raw)
    labels = {_plain(e["label"]) for e in entries}
    for entry, hints in zip(entries, tags, strict=True):
        label = _plain(entry["label"])
        concept = label if label in vocabulary.concepts else ""
        names = [_spoken(label, labels)]
        names += vocabulary.concepts[concept].names[1:] if concept else ()
        key = sources.code(entry["hexcode"])

        def sprite(style: str, look: str) -> CutOut:
            return CutOut(style, look, SIZE, tuple(names), hints, concept)  # noqa: B023

        if key in pictures:
            image = Image.open(pictures[key]).convert("RGBA")
            yield sprite("icon", "3d"), image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        for look in ("colour", "flat", "noto", "contrast"):
            # The set in colour has the names of the flat one, and no codes.
            name = sets["flat" if look == "colour" else look].codes.get(key)
            if name in sets[look].icons:
                drawing = drawn_svg(sets[look].icons[name], sets[look].sizes[name])
                yield sprite(SET_STYLES[look], look), drawing


def _game_sprites(icons: sources.SvgSet) -> Iterator[tuple[CutOut, Image.Image]]:
    for name, body in icons.icons.items():
        if not NOT_OBJECTS.search(name):
            spoken = re.sub(r"\s+", " ", re.sub(r"[\d-]+", " ", name)).strip()
            sprite = CutOut("silhouette", "game", SIZE, (spoken,) if spoken else ("",))
            yield sprite, drawn_svg(body, icons.sizes[name])


def _wanted(entry: dict[str, Any], vocabulary: ConceptNames) -> bool:
    label = _plain(entry["label"])
    if label in vocabulary.concepts or entry.get("group") in OBJECT_GROUPS:
        return not re.search(r"o’clock|thirty$", entry["label"])
    return not OTHER_WORDS.isdisjoint(re.findall("[a-z]+", label))


def _plain(label: str) -> str:
    return label.replace("’", "'").lower()


def _spoken(label: str, labels: set[str]) -> str:
    """`wolf face` is said `wolf`, unless there is a whole wolf as well."""
    short = label.removesuffix(" face")
    return label if short in labels else short
