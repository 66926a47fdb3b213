"""Pictures with known answers: a sprite whose true alpha is drawn, pixel art, textures, smooth pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from serve_app.finishing.picture import Floats, Picture, Pixels

GREEN, MAGENTA, WHITE, GREY = (0, 200, 0), (255, 0, 255), (255, 255, 255), (128, 128, 128)
BACKDROPS = {"black": (0, 0, 0), "white": (255, 255, 255), "violet": (143, 0, 255)}
SUPERSAMPLING = 8


@dataclass(frozen=True)
class Sprite:
    """A drawn picture on its key colour, and what a perfect cutout of it would be."""

    drawn: Picture
    truth: Picture

    @property
    def edge(self) -> NDArray[np.bool_]:
        return (self.truth.alpha > 0) & (self.truth.alpha < 255)


def sprite(
    size: int = 512, key: tuple[int, int, int] = GREEN, noise: float = 0, seed: int = 0
) -> Sprite:
    """A shaded body with a dark outline on one side only, a hole, a light part, and hair lines 1.3 px
    wide (at 512). Drawn 8 times larger and averaged: alpha and colour at an edge are known."""
    color, coverage = _averaged(size)
    truth = np.concatenate([color, coverage * 255], axis=2).round().astype(np.uint8)
    drawn = color * coverage + np.array(key) * (1 - coverage)
    drawn += np.random.default_rng(seed).normal(0, noise, drawn.shape) if noise else 0
    return Sprite(opaque(drawn), Picture(truth))


@lru_cache
def _averaged(size: int) -> tuple[Floats, Floats]:
    big = size * SUPERSAMPLING
    layer = Image.new("RGBA", (big, big), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)

    def box(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        return (x0 * big, y0 * big, x1 * big, y1 * big)

    wing = [(0.62 * big, 0.10 * big), (0.85 * big, 0.40 * big), (0.60 * big, 0.45 * big)]
    draw.ellipse(box(0.20, 0.25, 0.80, 0.85), fill=(60, 30, 20, 255))  # outline, 2 px at 512
    draw.ellipse(box(0.204, 0.254, 0.80, 0.85), fill=(205, 60, 50, 255))
    draw.ellipse(box(0.30, 0.30, 0.55, 0.50), fill=(240, 190, 120, 255))
    draw.polygon(wing, fill=(70, 80, 190, 255))
    draw.rectangle(box(0.70, 0.60, 0.90, 0.70), fill=(235, 225, 215, 255))
    draw.ellipse(box(0.42, 0.55, 0.58, 0.71), fill=(0, 0, 0, 0))  # the hole
    for i in range(7):
        x = 0.30 + 0.04 * i
        line = [(x * big, 0.32 * big), ((x - 0.12 + 0.02 * i) * big, (0.08 + 0.01 * i) * big)]
        draw.line(line, fill=(90, 60, 40, 255), width=max(1, round(1.3 * big / 512)))
    part = np.asarray(layer, np.float32).reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 4)
    alpha = part[..., 3:] / 255
    coverage = alpha.mean((1, 3))
    color = (part[..., :3] * alpha).mean((1, 3)) / np.maximum(coverage, 1e-6)
    return color, coverage


def opaque(rgb: NDArray[np.floating]) -> Picture:
    """Any H x W x 3 of numbers about 0 to 255."""
    pixels = np.full((*rgb.shape[:2], 4), 255, np.uint8)
    pixels[..., :3] = np.clip(np.round(rgb), 0, 255)
    return Picture(pixels)


def over(pixels: Pixels, backdrop: tuple[int, int, int]) -> Floats:
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return pixels[..., :3] * alpha + np.array(backdrop, np.float32) * (1 - alpha)


def edge_error(result: Picture, made: Sprite) -> float:
    """Mean difference per channel of the edge's pixels from the truth, on black, white and violet."""
    errors = [
        np.abs(over(result.pixels, b) - over(made.truth.pixels, b))[made.edge].mean()
        for b in BACKDROPS.values()
    ]
    return float(np.mean(errors))


def noise_ground() -> Sprite:
    """A red square on a ground of blue and green noise, which no matte can key."""
    rng = np.random.default_rng(3)
    drawn = rng.uniform(0, 255, (96, 96, 3)) * (0.2, 1, 1)
    truth = np.zeros((96, 96, 4), np.uint8)
    truth[24:72, 30:60] = (255, 40, 40, 255)
    drawn[truth[..., 3] > 0] = (255, 40, 40)
    return Sprite(opaque(drawn), Picture(truth))
