"""Measures exported weights: is what was asked there, in its style and colour, varied and new?

It does not know the training; it asks the plain diffusers pipeline and a judge of real pictures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from PIL import Image

from .captions import STYLE_PHRASES, read_vocabulary
from .classifier import Classifier, load
from .held_out import FreePrompt, HeldOut
from .inks import BY_NAME
from .latents import to_signed
from .run import require, save_sheet, write_atomically
from .sprites import STYLES, Sprites
from .vocabulary import Vocabulary

STEPS, GUIDANCE = 20, 3.0
FIRST_SEED = 1000
SEEDS = 2  # pictures of each free prompt
PAPER = 235  # a channel value from which a pixel counts as the white background
OBJECT_STYLES = ("icon", "flat", "silhouette", "pixel_icon")
VOCABULARY = Path(__file__).with_name("vocabulary.txt")
WORDS = (
    "sword", "shield", "potion", "chest", "key", "crown", "apple", "mushroom", "dragon", "wolf",
    "cat", "castle", "bomb", "book", "ring", "axe", "robot", "ghost", "rocket", "tree",
)  # fmt: skip
VARIED = ("chest", "potion", "sword", "dragon", "house", "mushroom")
FIGURES = (
    "human warrior with a sword", "elf wizard with a staff", "goblin", "skeleton", "zombie", "dragon",
    "orc warrior with an axe", "demon", "wolf", "spider", "vampire", "ghost", "knight", "troll",
    "bear", "snake", "golem", "mummy", "centaur warrior with a bow", "giant",
)  # fmt: skip
SURFACES = (
    "grass floor", "brick wall", "stone wall", "dirt floor", "sand floor", "ice floor", "lava floor",
    "water", "marble wall", "crystal wall", "cobble floor", "metal wall", "mud floor", "snow floor",
    "wooden floor", "mosaic floor", "volcanic wall", "vines wall", "slime wall", "bog floor",
)  # fmt: skip


def evaluate(
    folder: Path, weights: Path, device: str = "cpu", steps: int = STEPS
) -> dict[str, Any]:
    """Returns the table; writes it to evaluation.json and what it saw to sheets/."""
    judge = load(folder).to(device)
    painter = Painter(require(weights, "export"), device, steps)
    table: dict[str, Any] = {"device": device, "steps": steps}
    table |= free_prompts(folder, painter, judge)
    table |= unseen_as_ordered(folder, painter, judge, Vocabulary.load(weights))
    table |= known_concepts(folder, painter, judge)
    table |= variety(folder, painter)
    sheets(folder, painter)
    write_atomically(folder / "evaluation.json", json.dumps(table, indent=1).encode())
    return table


class Painter:
    """The exported weights behind the plain pipeline."""

    def __init__(self, weights: Path, device: str = "cpu", steps: int = STEPS) -> None:
        self.pipeline: Any = DiffusionPipeline.from_pretrained(weights, dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.to(device)
        self.steps, self.batch = steps, 8 if device == "cpu" else 128

    def draw(self, prompts: Sequence[str], seeds: Iterable[int] | None = None) -> np.ndarray:
        """Pictures (N, H, W, 3). The seed of each is FIRST_SEED and its place, or given."""
        wanted = list(seeds) if seeds else list(range(FIRST_SEED, FIRST_SEED + len(prompts)))
        images: list[np.ndarray] = []
        for start in range(0, len(prompts), self.batch):
            few = slice(start, start + self.batch)
            images += self.pictures(list(prompts[few]), wanted[few])
        return np.stack(images)

    def pictures(self, prompts: list[str], seeds: Iterable[int]) -> list[np.ndarray]:
        result = self.pipeline(
            prompts,
            num_inference_steps=self.steps,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )
        return [np.asarray(image) for image in result.images]

    def seconds(self, repeats: int = 5) -> float:
        """Median seconds of one picture drawn alone."""
        taken: list[float] = []
        for seed in range(repeats):
            started = time.perf_counter()
            self.pictures(["a red apple, game icon"], [seed])
            taken.append(time.perf_counter() - started)
        return float(np.median(taken))


class Verdicts:
    """What the judge says of pictures (N, H, W, 3)."""

    @torch.no_grad()
    def __init__(self, judge: Classifier, images: np.ndarray) -> None:
        device = next(judge.parameters()).device
        found = [judge(part.to(device)) for part in to_signed(images).split(256)]
        concepts, styles, inks = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
        order = concepts.argsort(1, descending=True).tolist()
        self.named = [[judge.concepts[number] for number in row] for row in order]
        self.styles = [STYLES[number] for number in styles.argmax(1).tolist()]
        self.inks: list[int] = inks[:, :-1].argmax(1).tolist()

    def right(self, row: int, nouns: Sequence[str], best: int = 1) -> bool:
        return not set(nouns).isdisjoint(self.named[row][:best])


def free_prompts(folder: Path, painter: Painter, judge: Classifier) -> dict[str, Any]:
    """Shares of the 120 prompts, SEEDS pictures each, that show what was asked."""
    table: dict[str, Any] = {}
    missed: dict[str, list[str]] = {}
    for kind, prompts in HeldOut.load().kinds.items():
        asked = [prompt for prompt in prompts for _ in range(SEEDS)]
        images = painter.draw([prompt.prompt for prompt in asked])
        save_sheet(folder / f"sheets/free_{kind}.png", list(images), 12)
        verdicts = Verdicts(judge, images)
        hits = _hits(kind, asked, verdicts, judge, images)
        table |= {f"{kind}_{question}": float(np.mean(found)) for question, found in hits.items()}
        missed[kind] = sorted(
            {
                asked[row].prompt
                for row in range(len(asked))
                if not all(h[row] for h in hits.values())
            }
        )
    return table | {"missed": missed}


def unseen_as_ordered(
    folder: Path, painter: Painter, judge: Classifier, vocabulary: Vocabulary
) -> dict[str, Any]:
    """Shares of the unseen nouns that show their neighbour when the service orders them as icons: it says
    the nearest known thing in the place of an unknown one."""
    asked = [p for p in HeldOut.load().kinds["unseen_noun"] for _ in range(SEEDS)]
    drawn = [vocabulary.familiarity(p.prompt).instead or p.prompt for p in asked]
    images = painter.draw([STYLE_PHRASES["icon"][0].format(said) for said in drawn])
    save_sheet(folder / "sheets/unseen_as_ordered.png", list(images), 12)
    hits = _hits("unseen_noun", asked, Verdicts(judge, images), judge, images)
    return {f"unseen_as_ordered_{name}": float(np.mean(found)) for name, found in hits.items()}


def _hits(
    kind: str, asked: list[FreePrompt], verdicts: Verdicts, judge: Classifier, images: np.ndarray
) -> dict[str, list[bool]]:
    rows = range(len(asked))
    if kind == "pair":
        # Either half as if it were a whole picture: the middle rows, at twice their size.
        halves = [Verdicts(judge, images[:, 32:96, :64]), Verdicts(judge, images[:, 32:96, 64:])]
        left, right = halves

        def both(row: int, best: int) -> bool:
            one, two = asked[row].noun, asked[row].second
            return (left.right(row, one, best) and right.right(row, two, best)) or (
                left.right(row, two, best) and right.right(row, one, best)
            )

        return {"both": [both(r, 1) for r in rows], "both_top5": [both(r, 5) for r in rows]}
    found = {
        "noun": [verdicts.right(r, asked[r].noun) for r in rows],
        "noun_top5": [verdicts.right(r, asked[r].noun, 5) for r in rows],
    }
    if kind == "attribute":
        found["visible"] = [verdicts.inks[r] == BY_NAME[asked[r].attribute] for r in rows]
    if kind == "style":
        found["style"] = [verdicts.styles[r] == asked[r].style for r in rows]
        found["both"] = [a and b for a, b in zip(found["noun"], found["style"], strict=True)]
    return found


def known_concepts(folder: Path, painter: Painter, judge: Classifier) -> dict[str, Any]:
    """Every concept once in every style for objects: named right, in its style, how new."""
    labels = [c.names[0] for c in read_vocabulary(VOCABULARY.read_text())]
    table: dict[str, Any] = {}
    real = _Thumbnails(folder)
    for style in OBJECT_STYLES:
        prompts = [STYLE_PHRASES[style][0].format(_asked(label)) for label in labels]
        images = painter.draw(prompts)
        verdicts = Verdicts(judge, images)
        rows = range(len(labels))
        nearest = real.nearest(images, style)
        table[style] = {
            "noun": float(np.mean([verdicts.right(r, [labels[r]]) for r in rows])),
            "noun_top5": float(np.mean([verdicts.right(r, [labels[r]], 5) for r in rows])),
            "style": float(np.mean([verdicts.styles[r] == style for r in rows])),
            "white_frame": float(np.mean([plain_background(image) for image in images])),
            "nearest_training_picture": float(np.median(nearest)),
            "closer_than_0.02": float(np.mean(nearest < 0.02)),
        }
        save_sheet(folder / f"sheets/concepts_{style}.png", [half(i) for i in images], 23)
        _blind(folder, style, labels, images)
    return table


def _asked(label: str) -> str:
    name = label.removesuffix(" face")
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def _blind(folder: Path, style: str, labels: list[str], images: np.ndarray) -> None:
    """Twenty pictures drawn at random without their words, for somebody to name; and the words."""
    chosen = np.random.default_rng(STYLES.index(style)).permutation(len(labels))[:20].tolist()
    save_sheet(folder / f"sheets/blind_{style}.png", [images[row] for row in chosen], 5)
    answers = json.dumps([labels[row] for row in chosen])
    write_atomically(folder / f"sheets/blind_{style}.json", answers.encode())


def variety(folder: Path, painter: Painter, count: int = 8) -> dict[str, Any]:
    """Median distance between `count` seeds of one word, beside that between the pictures which
    the data has of that concept in that style."""
    table: dict[str, Any] = {}
    vocabulary = {n: c.names[0] for c in read_vocabulary(VOCABULARY.read_text()) for n in c.names}
    real = _Thumbnails(folder)
    for style in OBJECT_STYLES:
        prompts = [
            f"{STYLE_PHRASES[style][0].format('a ' + w)}" for w in VARIED for _ in range(count)
        ]
        images = painter.draw(prompts)
        small = thumbnails(images).view(len(VARIED), count, -1)
        drawn = [_median_distance(row) for row in small]
        sets = [real.of(vocabulary[w], style) for w in VARIED]
        data = [_median_distance(few) for few in sets if len(few) > 1]
        table[f"variety_{style}"] = {
            "between_seeds": float(np.median(drawn)),
            "between_pictures_of_the_data": float(np.median(data)) if data else None,
        }
        save_sheet(folder / f"sheets/seeds_{style}.png", [half(i) for i in images], count)
    return table


def _median_distance(rows: torch.Tensor) -> float:
    apart = torch.cdist(rows, rows, p=1) / rows.shape[1]
    return float(apart[~torch.eye(len(rows), dtype=torch.bool)].median())


class _Thumbnails:
    """The sets' own pictures, small, on white, by style; pixel art of the tiles and of the rest."""

    def __init__(self, folder: Path) -> None:
        sprites = Sprites.load(folder / "sprites.npz")
        self.about = sprites.about
        self.small = torch.zeros(len(self.about), 3 * 32 * 32)
        for size in (128, 32):
            rows, pixels = sprites.pixels(size)
            if rows:
                alpha = pixels[..., 3:].astype(np.float32) / 255
                white = pixels[..., :3] * alpha + 255 * (1 - alpha)
                self.small[rows] = thumbnails(white.round().astype(np.uint8))

    def rows(self, style: str) -> list[int]:
        """Pixel art is learned from every set."""
        return [
            row
            for row, one in enumerate(self.about)
            if one.style == style or (style == "pixel_icon" and one.style in ("icon", "flat"))
        ]

    def of(self, concept: str, style: str) -> torch.Tensor:
        rows = [
            r for r, one in enumerate(self.about) if one.concept == concept and one.style == style
        ]
        return self.small[rows]

    def nearest(self, images: np.ndarray, style: str) -> np.ndarray:
        """Mean absolute distance on [0, 1] at 32x32 to the nearest, as it is or mirrored."""
        real = self.small[self.rows(style)]
        turned = real.view(-1, 3, 32, 32).flip(-1).flatten(1)
        drawn = thumbnails(images)
        apart = torch.cdist(drawn, torch.cat([real, turned]), p=1) / drawn.shape[1]
        return apart.amin(1).numpy()


def sheets(folder: Path, painter: Painter) -> None:
    """Styles by twenty words, and a floor of 4 x 4 tiles."""
    rows = [[STYLE_PHRASES[s][0].format(f"a {w}") for w in WORDS] for s in OBJECT_STYLES]
    rows += [[STYLE_PHRASES["pixel_character"][0].format(f"a {w}") for w in FIGURES]]
    rows += [[STYLE_PHRASES["tile"][0].format(w) for w in SURFACES]]
    images = painter.draw([prompt for row in rows for prompt in row])
    save_sheet(folder / "sheets/styles.png", [half(image) for image in images], len(WORDS))
    with circular(painter.pipeline):
        tiles = painter.draw([STYLE_PHRASES["tile"][0].format(w) for w in SURFACES[:6]])
    paved = [half(np.tile(tile, (4, 4, 1))) for tile in tiles]
    save_sheet(folder / "sheets/tiled.png", paved, 3)


class circular:
    """While it lasts, the pipeline's convolutions go on at the other side: what they draw repeats."""

    def __init__(self, pipeline: Any) -> None:
        parts = (pipeline.unet, pipeline.vae.decoder)
        self.convolutions = [
            m for part in parts for m in part.modules() if isinstance(m, torch.nn.Conv2d)
        ]

    def _set(self, mode: Literal["circular", "zeros"]) -> None:
        for convolution in self.convolutions:
            convolution.padding_mode = mode
            # What Conv2d reads in every mode but zeros; it computes it for its first mode alone.
            sides = [int(side) for side in reversed(convolution.padding) for _ in range(2)]
            convolution._reversed_padding_repeated_twice = sides  # pyright: ignore[reportPrivateUsage]

    def __enter__(self) -> None:
        self._set("circular")

    def __exit__(self, *_: object) -> None:
        self._set("zeros")


def half(image: np.ndarray) -> np.ndarray:
    """At half its side, for the front page."""
    return np.asarray(Image.fromarray(image).reduce(2))


def plain_background(image: np.ndarray) -> bool:
    """White at nearly all of the frame, so that a flood fill from it cuts the object out."""
    paper = image.min(-1) >= PAPER
    edges = (paper[:3], paper[-3:], paper[:, :3], paper[:, -3:])
    frame = np.concatenate([edge.ravel() for edge in edges])
    return bool(frame.mean() >= 0.9 and 0.03 < 1 - paper.mean() < 0.9)


def thumbnails(images: np.ndarray) -> torch.Tensor:
    small = F.interpolate(to_signed(images), (32, 32), mode="bilinear", antialias=True)
    return (small.flatten(1) + 1) / 2
