"""Request: one image in the engine. It stores counters; everything else is derived from them.

Knows nothing of torch, threads or other requests. What its parameters mean to a model lives in
`state`, which only the model runner reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Self

from serve_app.catalog.schedulers import SCHEDULERS
from serve_app.params import GenerationParams

# Every field of GenerationParams is in a batch key, carried by each request through a shared call,
# or of no effect on the pixels. A test keeps these three lists complete.
CARRIED = {
    *("prompt", "negative_prompt", "seed", "n", "steps", "scheduler"),
    *("guidance_scale", "guidance_rescale", "guidance_stop"),
}
RECORDED = {"quality", "style_id", "style_revision", "subject", "subject_negative"}


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Requests with equal keys may share a denoising call. Filled from its own field names."""

    model: str
    model_revision: str
    width: int
    height: int
    reproducible: str | None

    @classmethod
    def of(cls, params: GenerationParams) -> Self:
        return cls(**{f.name: getattr(params, f.name) for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class DecodeKey(BatchKey):
    """Requests with equal keys may share a VAE call."""

    decoder: str


class Stage(Enum):
    WAITING = "waiting"  # holds no memory of the device
    STARTING = "starting"  # its prompts are being encoded, off the loop
    DENOISING = "denoising"
    DECODING = "decoding"  # all evaluations done, latents ready
    ENCODING = "encoding"  # pixels are being compressed, off the loop
    GONE = "gone"  # finished, failed or dropped; the scheduler has forgotten it


def evaluations_of(scheduler: str, steps: int) -> int:
    """UNet evaluations a diffusers scheduler needs for `steps`: second-drawing ones evaluate twice."""
    match SCHEDULERS[scheduler].class_name:
        case "HeunDiscreteScheduler" | "KDPM2DiscreteScheduler" | "KDPM2AncestralDiscreteScheduler":
            return 2 * steps - 1
        case "PNDMScheduler":
            return steps + 1
        case _:
            return steps


@dataclass(eq=False, slots=True)
class Request:
    """Image `index` of drawing number `drawing`."""

    params: GenerationParams
    index: int
    drawing: int
    guided: bool  # guidance adds rows (a model with an embedded guidance scale needs none)
    deadline: float = 0.0  # seconds on the engine's clock; the earliest runs first
    alone: bool = False  # under quarantine: must not start while another drawing is under way
    suspect: bool = False  # was in a batch that failed: has calls of its own from then on
    evaluations: int = 0  # a forecast until the runner has set its timesteps
    step: int = 0  # evaluations done
    stage: Stage = Stage.WAITING
    state: Any = None  # the model runner's: latents, scheduler object, generator, embeddings
    key: BatchKey = field(init=False)
    decode_key: DecodeKey = field(init=False)

    def __post_init__(self) -> None:
        self.evaluations = evaluations_of(self.params.scheduler, self.params.steps)
        self.key = BatchKey.of(self.params)
        self.decode_key = DecodeKey.of(self.params)

    @property
    def seed(self) -> int:
        return self.params.seed_of(self.index)

    @property
    def size(self) -> tuple[int, int]:
        return self.params.width, self.params.height

    @property
    def own_call(self) -> bool:
        """Shares no model call: its rows are then the same whatever else runs."""
        return self.suspect or self.params.reproducible == "strict"

    @property
    def guided_evaluations(self) -> int:
        if not self.guided:
            return 0
        return math.ceil(self.evaluations * self.params.guidance_stop)

    @property
    def rows(self) -> int:
        """UNet rows of its next evaluation: one without guidance, else a second, unconditional one."""
        return 2 if self.step < self.guided_evaluations else 1

    @property
    def denoised(self) -> bool:
        return self.step >= self.evaluations
