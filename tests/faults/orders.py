"""What clients order: an endless seeded mix of jobs of all kinds.

Knows nothing of HTTP, of answers or of faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

CLIENTS = ("ann", "ben", "cem")
"""X-Client-Id of those who order all the time."""

EFFECTS: list[dict[str, Any]] = [{"op": "palette", "colors": 4}]
SOURCE_IMAGES = 3
SHAPES: dict[str, dict[str, Any]] = {
    "short": {"steps": 4, "reproducible": "strict"},
    "triple": {"steps": 8, "n": 3, "reproducible": "strict"},
    "styled": {"style_id": "icon", "steps": 3, "n": 2},
    "large": {"steps": 6, "width": 64, "height": 64},
    "unguided": {"steps": 10, "n": 2, "guidance_scale": 1.0},
    "ddim": {"steps": 12, "scheduler": "ddim"},
    "long": {"steps": 100, "n": 2, "reproducible": "strict"},
    "long_loose": {"steps": 100, "n": 2},
    "finished": {
        "steps": 8,
        "n": 2,
        "effects": [*EFFECTS, {"op": "normal_map"}],
        "reproducible": "strict",
    },
    "derived": {
        "effects": [{"op": "scale", "width": 1200, "height": 1200, "filter": "lanczos"}, *EFFECTS]
    },
    "sheet": {"formats": ["css", "texturepacker_hash"], "padding": 2, "extrude": 1},
    "endless": {"steps": 900, "n": 64},
}
"""A step takes milliseconds: only the long ones run for seconds, so that a fault can strike meanwhile. What
is derived or packed is a job of `SOURCE_IMAGES` images from before the campaign."""
WEIGHTS = (4, 3, 3, 2, 2, 2, 4, 4, 3, 4, 3, 1)
"""How often each shape is chosen."""
ENDLESS = "endless"
"""It would run for many minutes: somebody cancels it, or its deadline ends it."""


@dataclass(frozen=True)
class Motif:
    """The part of an order that decides its pixels. Each motif is drawn once alone, as the reference."""

    shape: str
    seed: int

    @property
    def strict(self) -> bool:
        return SHAPES[self.shape].get("reproducible") == "strict"

    def path(self, source: str) -> str:
        """Where it is ordered. `source`: id of the job whose pictures are derived or packed."""
        routes = {"derived": f"/v1/jobs/{source}/derive", "sheet": "/v1/sheets"}
        return routes.get(self.shape, "/v1/generate")

    def body(self, source: str) -> dict[str, Any]:
        match self.shape:
            case "derived":
                return SHAPES[self.shape]
            case "sheet":
                items = [{"job_id": source, "index": i} for i in range(SOURCE_IMAGES)]
                return {"items": items, "name": f"sheet_{self.seed}"} | SHAPES[self.shape]
            case _:
                named = {"prompt": "a red sword", "style_id": "none", "seed": self.seed}
                return named | SHAPES[self.shape]


def motifs() -> list[Motif]:
    """Every motif with an end; long ones once, since each reference takes seconds."""
    shapes = [shape for shape in SHAPES if shape != ENDLESS]
    once = ("long", "long_loose", "derived", "sheet")
    return [Motif(s, seed) for s in shapes for seed in ((11,) if s in once else (7, 40))]


@dataclass(frozen=True)
class PlannedOrder:
    """One order as it is sent, every time it is sent."""

    name: str  # also a tag of the job, which tells whose job it is even if no answer came
    client: str
    motif: Motif
    priority: str = "normal"
    tag: str = "campaign"
    key: str | None = None  # Idempotency-Key
    cancel_after: str | None = None

    @property
    def expires(self) -> bool:
        """It has a short deadline, which ends it unless somebody cancels it before."""
        return self.motif.shape == ENDLESS

    def path(self, source: str) -> str:
        return self.motif.path(source)

    def body(self, source: str) -> dict[str, Any]:
        labels: dict[str, Any] = {"tags": [f"order:{self.name}", self.tag]}
        if self.motif.shape not in ("derived", "sheet"):
            labels |= {"priority": self.priority, "metadata": {"order": self.name}}
        return self.motif.body(source) | labels

    def headers(self) -> dict[str, str]:
        optional = {"Idempotency-Key": self.key, "Cancel-After": self.cancel_after}
        return {"X-Client-Id": self.client} | {k: v for k, v in optional.items() if v is not None}


def orders(seed: int, prefix: str, clients: Sequence[str]) -> Iterator[PlannedOrder]:
    """Orders in the name of these clients, always the same ones for a seed and a prefix."""
    rng = Random(f"{seed} {prefix}")
    by_shape: dict[str, list[Motif]] = {ENDLESS: [Motif(ENDLESS, 5)]}
    for motif in motifs():
        by_shape.setdefault(motif.shape, []).append(motif)
    number = 0
    while True:
        number += 1
        name = f"{prefix}-{number}"
        motif = rng.choice(by_shape[rng.choices(list(SHAPES), WEIGHTS)[0]])
        never = rng.choice([None, None, "1h30m", "5400"])
        yield PlannedOrder(
            name,
            rng.choice(clients),
            motif,
            priority=rng.choices(["low", "normal", "high"], (1, 3, 1))[0],
            tag=rng.choice(["level/1", "level/2"]),
            key=f"key {seed} {name}" if rng.random() < 0.4 else None,
            cancel_after=rng.choice(["1", "2s"]) if motif.shape == ENDLESS else never,
        )


BATCHED = ("short", "styled", "unguided")
"""Shapes of the rows of a batch."""
ROWS = 4


@dataclass(frozen=True)
class PlannedBatch:
    """Orders that are sent together, with a key, until they are answered."""

    name: str
    client: str
    rows: tuple[PlannedOrder, ...]

    def body(self) -> dict[str, Any]:
        return {"orders": [row.body("") for row in self.rows]}

    def headers(self) -> dict[str, str]:
        return {"X-Client-Id": self.client, "Idempotency-Key": f"batch {self.name}"}


def batches(seed: int, client: str) -> Iterator[PlannedBatch]:
    """Batches of this client, always the same ones for a seed."""
    rng = Random(f"{seed} {client} batches")
    shapes = [motif for motif in motifs() if motif.shape in BATCHED]
    number = 0
    while True:
        number += 1
        name = f"{client}-b{number}"
        rows = [PlannedOrder(f"{name}.{row}", client, rng.choice(shapes)) for row in range(ROWS)]
        yield PlannedBatch(name, client, tuple(rows))


def batch_row(name: str) -> tuple[str, int] | None:
    """Batch and row of an order of this name; None: it is no row of a batch."""
    batch, dot, row = name.partition(".")
    return (batch, int(row)) if dot else None
