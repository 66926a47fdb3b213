"""Measures the exported weights: does the picture show what was asked, in colour, cut out, new?

It does not know the training; it asks the plain diffusers pipeline and a judge of real pictures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from PIL import Image
from tqdm import tqdm

from .captions import COLOURS
from .classifier import Classifier, Training, augmented, ranks, train_classifier
from .data import Pictures
from .latents import to_signed
from .run import require, save_sheet, wait_while_paused, write_atomically

STEPS, GUIDANCE = 20, 3.0
FIRST_SEED = 1000
HUE_TOLERANCE = 25  # degrees; neighbouring colours are at least 22 apart
PAPER = 235  # a channel value from which a pixel counts as the white background

# Words that no caption holds, and the concepts a thesaurus would name for them.
UNSEEN_WORDS = {
    "broadsword": "dagger|crossed swords", "katana": "dagger|crossed swords",
    "stiletto knife": "dagger|kitchen knife", "tomahawk": "axe", "mallet": "hammer",
    "longbow": "bow and arrow", "buckler": "shield", "grenade": "bomb", "mine explosive": "bomb",
    "elixir": "alembic|test tube|bottle with popping cork", "tome": "closed book|open book",
    "grimoire": "closed book|open book", "manuscript": "scroll|open book|closed book",
    "galleon": "sailboat|anchor", "tiara": "crown", "diadem": "crown|gem stone",
    "ruby": "gem stone|ring", "sapphire": "gem stone|ring", "emerald": "gem stone|ring",
    "doubloon": "coin|money bag", "loot": "money bag|coin|toolbox", "chalice": "trophy",
    "sceptre": "magic wand|crown", "fortune teller sphere": "crystal ball", "passkey": "key|old key",
    "sarcophagus": "coffin|headstone", "citadel": "castle",
    "palace": "castle", "cabin": "house|hut", "shack": "hut|house", "teepee": "tent",
    "lava mountain": "volcano", "carton": "package", "bonfire": "fire",
    "blaze": "fire", "asteroid": "rock|comet|ringed planet", "pebble": "rock",
    "conifer": "evergreen tree", "cub": "bear|lion|panda|tiger",
    "stallion": "horse|unicorn", "piglet": "pig", "toad": "frog", "cobra": "snake",
    "wyvern": "dragon|dragon face", "raven": "eagle|owl|bat", "tarantula": "spider",
    "moth": "butterfly", "kraken": "octopus|squid", "cyborg": "robot", "warlock": "mage",
    "martian": "alien|flying saucer", "poltergeist": "ghost", "hare": "rabbit", "gown": "dress",
    "orca": "spouting whale|dolphin|shark", "jaguar": "tiger", "warship": "ship|sailboat",
    "hound": "dog", "chimpanzee": "monkey", "fiddle": "violin",
}  # fmt: skip
COLOURED_OBJECTS = (
    "gem", "potion bottle", "apple", "car", "crown", "shield", "dragon", "mushroom", "book",
    "fish", "butterfly", "heart", "star", "house", "backpack", "balloon", "rose", "key", "robot",
    "magnet",
)  # fmt: skip
ASKED_COLOURS = ("red", "yellow", "green", "blue", "purple", "pink")


def evaluate(
    folder: Path, weights: Path, concepts: int = 1000, seeds: int = 2, guidance: float = GUIDANCE
) -> dict[str, Any]:
    """Returns the table; writes it to evaluation.json and what it saw to sheets/.

    At most `concepts` of them are drawn, in a shuffled order.
    """
    pictures = Pictures.load(folder)
    judge = train_classifier(folder, pictures.views, Training())
    painter = Painter(require(weights, "export"), folder, guidance)
    chosen = np.random.default_rng(0).permutation(len(pictures.concepts))[:concepts].tolist()
    names = [pictures.concepts[c].names[0] for c in chosen]
    table: dict[str, Any] = {
        "judge_top5_on_real": judge_on_real(judge, pictures.views),
        "concepts": len(chosen),
    }

    prompts = [f"a {name}" for name in names for _ in range(seeds)]
    drawn = painter.draw(prompts, "concepts")
    rank = ranks(judge, to_signed(drawn), [{c} for c in chosen for _ in range(seeds)])
    table |= {
        "pictures": len(drawn),
        "first": share(rank, 1),
        "top5": share(rank, 5),
        "background_plain": float(np.mean([plain_background(image) for image in drawn])),
        "seconds_per_picture": painter.seconds(),
        **novelty(drawn, pictures.views),
    }
    save_sheet(folder / "sheets/concepts.png", list(drawn), 20)
    save_sheet(folder / "sheets/sheet.png", [half(image) for image in drawn[::seeds]], 23)
    misses = {prompts[i]: r for i, r in enumerate(rank) if r >= 5}
    table["not_in_top5"] = sorted(misses)

    where = {concept.names[0]: row for row, concept in enumerate(pictures.concepts)}
    drawn = painter.draw([f"a {word}" for word in UNSEEN_WORDS], "unseen words")
    wanted = [{where[n] for n in line.split("|") if n in where} for line in UNSEEN_WORDS.values()]
    rank = ranks(judge, to_signed(drawn), wanted)
    table |= {"unseen_words_first": share(rank, 1), "unseen_words_top5": share(rank, 5)}
    table["unseen_words_missed"] = [
        word for word, place in zip(UNSEEN_WORDS, rank, strict=True) if place >= 5
    ]
    save_sheet(folder / "sheets/unseen.png", list(drawn), 10)

    asked = [(thing, colour) for thing in COLOURED_OBJECTS for colour in ASKED_COLOURS]
    drawn = painter.draw([f"a {colour} {thing}" for thing, colour in asked], "colours")
    obeyed = [shows(image, colour) for image, (_, colour) in zip(drawn, asked, strict=True)]
    table["colour_obeyed"] = float(np.mean(obeyed))
    save_sheet(folder / "sheets/colours.png", list(drawn), 12)
    write_atomically(folder / "evaluation.json", json.dumps(table, indent=1).encode())
    return table


class Painter:
    """The exported weights behind the plain pipeline."""

    def __init__(self, weights: Path, folder: Path, guidance: float = GUIDANCE) -> None:
        self.pipeline: Any = DiffusionPipeline.from_pretrained(weights, dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        self.folder, self.guidance = folder, guidance

    def draw(self, prompts: Sequence[str], title: str, batch: int = 8) -> np.ndarray:
        """Pictures (N, H, W, 3); the seed of each is its place, so that anybody can draw it again."""
        images: list[np.ndarray] = []
        with tqdm(total=len(prompts), desc=title, unit="picture") as bar:
            for start in range(0, len(prompts), batch):
                wait_while_paused(self.folder)
                few = list(prompts[start : start + batch])
                images += self.pictures(
                    few, range(FIRST_SEED + start, FIRST_SEED + start + len(few))
                )
                bar.update(len(few))
        return np.stack(images)

    def pictures(self, prompts: list[str], seeds: Iterable[int]) -> list[np.ndarray]:
        result = self.pipeline(
            prompts,
            num_inference_steps=STEPS,
            guidance_scale=self.guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )
        return [np.asarray(image) for image in result.images]

    def seconds(self, repeats: int = 5) -> float:
        """Median seconds of one picture drawn alone."""
        taken: list[float] = []
        for seed in range(repeats):
            wait_while_paused(self.folder)
            started = time.perf_counter()
            self.pictures(["a red apple"], [seed])
            taken.append(time.perf_counter() - started)
        return float(np.median(taken))


def half(image: np.ndarray) -> np.ndarray:
    """At half its side, for the front page."""
    return np.asarray(Image.fromarray(image).reduce(2))


def share(rank: list[int], best: int) -> float:
    return float(np.mean([r < best for r in rank]))


def judge_on_real(judge: Classifier, views: np.ndarray) -> float:
    """Share of real pictures, in augmented views it was not trained on, in the judge's top 5."""
    generator = torch.Generator().manual_seed(99)
    hits = [
        rank < 5
        for column in range(0, views.shape[1], 3)
        for rank in ranks(
            judge,
            augmented(to_signed(views[:, column]), generator),
            [{row} for row in range(len(views))],
        )
    ]
    return float(np.mean(hits))


def plain_background(image: np.ndarray) -> bool:
    """White at nearly all of the frame, so that a flood fill from it cuts the object out."""
    paper = image.min(-1) >= PAPER
    edges = (paper[:3], paper[-3:], paper[:, :3], paper[:, -3:])
    frame = np.concatenate([edge.ravel() for edge in edges])
    return bool(frame.mean() >= 0.9 and 0.03 < 1 - paper.mean() < 0.9)


def shows(image: np.ndarray, colour: str) -> bool:
    """Is the most common strong hue of the object the asked one?"""
    hsv = np.asarray(Image.fromarray(image).convert("HSV")).astype(np.float32)
    weight = (hsv[..., 1] / 255) * (hsv[..., 1] > 60) * (image.min(-1) < PAPER)
    counts, edges = np.histogram(hsv[..., 0] * 360 / 256, bins=72, range=(0, 360), weights=weight)
    smooth = sum(np.roll(counts, shift) for shift in (-2, -1, 0, 1, 2))
    found = edges[int(np.argmax(smooth))] + 2.5
    away = abs((found - COLOURS[colour] + 180) % 360 - 180)
    return bool(weight.sum() > 20 and away <= HUE_TOLERANCE)


def novelty(drawn: np.ndarray, views: np.ndarray) -> dict[str, float]:
    """Mean absolute distance on [0, 1] at 32x32 to the nearest training picture, as it is or
    mirrored; beside it the same between training pictures of different concepts."""
    real = thumbnails(views.reshape(-1, *views.shape[2:]))
    mirrored = thumbnails(views.reshape(-1, *views.shape[2:])[:, :, ::-1])
    nearest = torch.minimum(
        _nearest(thumbnails(drawn), real), _nearest(thumbnails(drawn), mirrored)
    )
    natural = thumbnails(views[:, 0])
    between = torch.cdist(natural, natural, p=1) / natural.shape[1]
    between.fill_diagonal_(torch.inf)
    return {
        "nearest_training_picture": float(nearest.median()),
        "copies": float((nearest < 0.02).float().mean()),
        "nearest_between_concepts": float(between.amin(1).median()),
    }


def _nearest(these: torch.Tensor, those: torch.Tensor) -> torch.Tensor:
    return torch.cdist(these, those, p=1).amin(1) / these.shape[1]


def thumbnails(images: np.ndarray) -> torch.Tensor:
    small = F.interpolate(to_signed(images), (32, 32), mode="bilinear", antialias=True)
    return (small.flatten(1) + 1) / 2
