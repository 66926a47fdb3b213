"""The judge: a small network that names concept, style and ink of a picture, trained on real ones.

It has never seen a generated picture, and does not know how the pictures it judges were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .compose import NO_INK, Scenes
from .errors import RecipeError
from .feed import SceneBatch
from .inks import INKS
from .run import load_checkpoint, require, save_checkpoint, seed_all
from .sprites import STYLES, CutOut, Sprites
from .training import Deadline, Pictures, Training, batches, train_until_done

SIDE = 64  # pixels the judge looks at
NOBODY = -100  # a label that teaches nothing


class Classifier(nn.Module):
    """Heads: concept, style, and ink (the last number: none)."""

    def __init__(self, concepts: list[str]) -> None:
        super().__init__()
        self.concepts = concepts
        widths = (3, 48, 96, 192, 256)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False, stride=2)]
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.Conv2d(after, after, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.sizes = [len(concepts), len(STYLES), len(INKS) + 1]
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(256 * 4, sum(self.sizes)))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Scores (N, classes) of each head for pictures (N, 3, any, any) in [-1, 1]."""
        small = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        features = F.adaptive_avg_pool2d(self.features(small), 2)
        return self.head(features.flatten(1)).split(self.sizes, 1)


def train(folder: Path, config: Training) -> None:
    seed_all(config.seed + 7)
    pictures = Pictures(folder, config.device)
    about = Sprites.load(folder / "sprites.npz").about
    model = Classifier(sorted({one.concept for one in about} - {""})).to(config.device)
    known = load_checkpoint(folder / "classifier.pt")
    if known is not None and known["concepts"] == model.concepts:
        model.load_state_dict(known["model"])  # learn on, with other pictures
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=0.01)
    clock = Deadline()

    def step(some: Iterator[SceneBatch], rate: float) -> torch.Tensor:
        batch = next(some)
        images = disturbed(pictures.signed(batch))
        wanted = [torch.from_numpy(w).to(images.device) for w in labels(batch.scenes, about, model)]
        losses = [
            F.cross_entropy(scores.float(), w, label_smoothing=0.05, ignore_index=NOBODY)
            for scores, w in zip(model(images), wanted, strict=True)
        ]
        loss = torch.stack(losses).sum()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def save() -> None:
        state = {"model": model.state_dict(), "concepts": model.concepts}
        save_checkpoint(folder / "classifier.pt", state)

    with batches(folder, config, seed=config.seed + 32) as some:
        train_until_done("judge", folder, config, clock, lambda rate: step(some, rate), save)


def load(folder: Path) -> Classifier:
    state = load_checkpoint(require(folder / "classifier.pt", "judge"))
    if state is None:
        raise RecipeError(f"{folder / 'classifier.pt'} cannot be read: run `judge` again")
    model = Classifier(state["concepts"])
    model.load_state_dict(state["model"])
    return model.eval().requires_grad_(False)


def labels(scenes: Scenes, about: list[CutOut], model: Classifier) -> tuple[np.ndarray, ...]:
    """Numbers of concept, style and ink of each scene's first sprite; NOBODY where there is none."""
    number = {name: row for row, name in enumerate(model.concepts)}
    alone = (scenes.sprite[:, 1] < 0) | (scenes.sprite[:, 1] == scenes.sprite[:, 0])
    concept = np.array([number.get(about[row].concept, NOBODY) for row in scenes.sprite[:, 0]])
    style = np.array([STYLES.index(name) for name in scenes.style])
    ink = np.where(scenes.ink[:, 0] == NO_INK, len(INKS), scenes.ink[:, 0])
    # Outlines that no word colours are coloured at random.
    ink = np.where((scenes.modelled > 0) & (scenes.ink[:, 0] == NO_INK), NOBODY, ink)
    return np.where(alone, concept, NOBODY), style, np.where(alone, ink, NOBODY)


def disturbed(images: torch.Tensor) -> torch.Tensor:
    """Each picture moved, turned, scaled, blurred, dimmed and noised a little; on white."""
    count, device = len(images), images.device

    def between(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, device=device)

    turn, zoom = between(-0.2, 0.2), between(0.85, 1.3)
    rows = [
        torch.stack([zoom * turn.cos(), -zoom * turn.sin(), between(-0.12, 0.12)], 1),
        torch.stack([zoom * turn.sin(), zoom * turn.cos(), between(-0.12, 0.12)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [count, 3, SIDE, SIDE], align_corners=False)
    small = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
    moved = F.grid_sample(small - 1, grid, align_corners=False) + 1
    soft = F.avg_pool2d(moved, 3, stride=1, padding=1, count_include_pad=False)
    blur = between(0, 1).view(-1, 1, 1, 1)
    light = between(0.9, 1.1).view(-1, 1, 1, 1)
    noise = torch.randn(moved.shape, device=device) * 0.04
    return ((moved.lerp(soft, blur) - 1) * light + 1 + noise).clamp(-1, 1)
