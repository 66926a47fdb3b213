"""The judge: a small network that names pictures, trained on real ones only.

It has never seen a generated picture, and does not know how the pictures it judges were made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from .latents import to_signed
from .run import load_checkpoint, save_checkpoint, seed_all, wait_while_paused

SIDE = 64  # pixels the judge looks at


@dataclass(frozen=True)
class Training:
    steps: int = 700
    batch: int = 48
    lr: float = 3e-3
    seed: int = 1


class Classifier(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 192)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False, stride=2)]
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(192 * 4, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (N, classes) of pictures (N, 3, any, any) in [-1, 1]."""
        small = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        features = F.adaptive_avg_pool2d(self.features(small), 2)
        return self.head(features.flatten(1))


def augmented(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each picture mirrored at random, moved, turned, scaled, blurred, dimmed; on white."""
    count = len(images)

    def between(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    mirror = torch.where(between(0, 1) < 0.5, -1.0, 1.0)
    turn, zoom = between(-0.25, 0.25), between(0.85, 1.25)
    rows = [
        torch.stack([zoom * turn.cos() * mirror, -zoom * turn.sin(), between(-0.15, 0.15)], 1),
        torch.stack([zoom * turn.sin() * mirror, zoom * turn.cos(), between(-0.15, 0.15)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [count, 3, SIDE, SIDE], align_corners=False)
    small = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
    moved = F.grid_sample(small - 1, grid, align_corners=False) + 1
    soft = F.avg_pool2d(moved, 3, stride=1, padding=1, count_include_pad=False)
    blur = between(0, 1).view(-1, 1, 1, 1)
    light = between(0.85, 1.15).view(-1, 1, 1, 1)
    noise = torch.randn(moved.shape, generator=generator) * 0.04
    return ((moved.lerp(soft, blur) - 1) * light + 1 + noise).clamp(-1, 1)


def train_classifier(folder: Path, views: np.ndarray, config: Training) -> Classifier:
    """`views` (N, V, H, W, 3): concept by colour. Returns the finished judge if there is one."""
    model = Classifier(len(views))
    state = load_checkpoint(folder / "classifier.pt")
    if state is not None and state["classes"] == len(views):
        model.load_state_dict(state["model"])
        return model.eval()
    seed_all(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    draw = np.random.default_rng(config.seed)
    small = _small(views)
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=0.01)
    bar = tqdm(range(config.steps), desc="judge", unit="step")
    for step in bar:
        wait_while_paused(folder)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        rows = draw.integers(len(views), size=config.batch)
        tinted = draw.random(config.batch) < 0.5
        columns = np.where(tinted, draw.integers(views.shape[1], size=config.batch), 0)
        images = augmented(small[rows, columns], generator)
        loss = F.cross_entropy(model(images), torch.from_numpy(rows), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    save_checkpoint(folder / "classifier.pt", {"model": model.state_dict(), "classes": len(views)})
    return model.eval()


def _small(views: np.ndarray) -> torch.Tensor:
    columns = [
        F.interpolate(to_signed(views[:, v]), (SIDE, SIDE), mode="bilinear", antialias=True)
        for v in range(views.shape[1])
    ]
    return torch.stack(columns, 1)


@torch.inference_mode()
def ranks(model: Classifier, images: torch.Tensor, wanted: list[set[int]]) -> list[int]:
    """For each picture, how many concepts the judge puts before the best of the wanted ones."""
    order = model(images).argsort(1, descending=True).tolist()
    return [
        min(row.index(concept) for concept in concepts)
        for row, concepts in zip(order, wanted, strict=True)
    ]
