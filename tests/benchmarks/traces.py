"""What arrives when: seeded traces of orders, equal for every arm.

Knows orders and their solo cost; nothing of arms, clocks or statistics.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from serve_app.params import GenerationParams

WORDS = (
    *("red", "blue", "gold", "iron", "magic", "old", "tiny", "round"),
    *("sword", "shield", "potion", "key", "gem", "coin", "apple", "ring"),
)


@dataclass(frozen=True)
class Kind:
    """A class of orders, and what one of them costs alone in the plain pipeline."""

    name: str
    steps: int
    guidance_scale: float
    solo: float = 0.0  # seconds
    flop: float = 0.0


@dataclass(frozen=True)
class Model:
    """What an order must say of the checkpoint that draws it."""

    name: str
    revision: str
    size: tuple[int, int]
    scheduler: str


@dataclass(frozen=True)
class Arrival:
    at: float  # seconds from the start of the trace
    kind: Kind
    params: GenerationParams


def draw_params(model: Model, kind: Kind, rng: random.Random) -> GenerationParams:
    """Words and seed are drawn at random: nothing is rendered twice, and no prompt is encoded twice."""
    return GenerationParams(
        prompt=" ".join(rng.choices(WORDS, k=4)),
        seed=rng.randrange(2**31),
        width=model.size[0],
        height=model.size[1],
        steps=kind.steps,
        guidance_scale=kind.guidance_scale,
        scheduler=model.scheduler,
        model=model.name,
        model_revision=model.revision,
    )


def arrivals_of(
    trace: str, seed: int, model: Model, kinds: dict[str, Kind], count: int
) -> list[Arrival]:
    """`mixed-0.7`, `uniform-1.1`: Poisson at that load. `burst-64`: that many mixed ones at once.

    A shorter trace of the same seed is the beginning of a longer one.
    """
    shape, _, amount = trace.partition("-")
    rng = random.Random(f"{shape} {seed}")
    mix = [kinds["even"]] if shape == "uniform" else [kinds["short"]] * 7 + [kinds["long"]] * 3
    mean_solo = sum(kind.solo for kind in mix) / len(mix)
    now = 0.0
    arrivals: list[Arrival] = []
    for _ in range(int(amount) if shape == "burst" else count):
        kind = rng.choice(mix)
        if shape != "burst":
            now += rng.expovariate(float(amount) / mean_solo)
        arrivals.append(Arrival(now, kind, draw_params(model, kind, rng)))
    return arrivals


def expected_seconds(arrivals: list[Arrival], speed: float) -> float:
    """How long a server that works `speed` times as fast as the plain pipeline needs for them."""
    now = 0.0
    for arrival in arrivals:
        now = max(now, arrival.at) + arrival.kind.solo / speed
    return now
