"""Request: one image in the engine. It stores counters and derives the rest from them.

Knows nothing of torch, threads or other requests. Latents and embeddings are in `state`, which only the
model runner reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Self

from serve_app.catalog.schedulers import SCHEDULERS
from serve_app.engine.sources import SourcePixels
from serve_app.params import GenerationParams, LoraUse

# A test checks that each field of GenerationParams is in exactly one of DecodeKey, CARRIED and RECORDED.
CARRIED = {  # may differ between requests that share a call
    *("prompt", "negative_prompt", "seed", "n", "steps", "timesteps", "scheduler"),
    *("guidance_scale", "guidance_rescale", "guidance_stop", "prompt_syntax", "clip_skip"),
    "embeddings",
    *("init_image", "strength", "mask_image", "control", "reference"),
}
RECORDED = {  # changes no pixel
    "quality",
    "style_id",
    "style_revision",
    "subject",
    "subject_negative",
    "not_taught",
    "finishing",
}


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Requests with equal keys may share a UNet call. `of` fills it from its own field names, and the runner
    adds `windows` when it has encoded the prompts."""

    model: str
    model_revision: str
    width: int
    height: int
    tile: str
    loras: tuple[LoraUse, ...]
    reproducible: str | None
    windows: int = field(default=1, kw_only=True)  # of tokens, that the UNet reads

    @classmethod
    def of(cls, params: GenerationParams) -> Self:
        names = (f.name for f in fields(cls) if f.name != "windows")
        return cls(**{name: getattr(params, name) for name in names})


@dataclass(frozen=True, slots=True)
class DecodeKey(BatchKey):
    """Requests with equal keys may share a VAE call."""

    decoder: str


class Stage(Enum):
    WAITING = "waiting"  # holds no memory of the device
    STARTING = "starting"  # its prompts are being encoded, in the text thread
    DENOISING = "denoising"
    DECODING = "decoding"  # all evaluations done, latents ready
    ENCODING = "encoding"  # its pixels are being compressed, in the encoders
    GONE = "gone"  # finished, failed or dropped; no longer in the scheduler


def evaluations_of(scheduler: str, steps: int) -> int:
    """UNet evaluations a diffusers scheduler needs for `steps`: second-order ones evaluate twice a step."""
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
    alone: bool = False  # under quarantine: starts only when no other drawing is under way
    suspect: bool = False  # was in a call that failed: from then on it shares no call
    evaluations: int = 0  # of the UNet in all; predicted until the runner has set its timesteps
    step: int = 0  # evaluations done
    stage: Stage = Stage.WAITING
    source: SourcePixels | None = None  # what it is drawn from
    state: Any = None  # model.trajectory.Trajectory, from `start` to decoding
    key: BatchKey = field(init=False)
    decode_key: DecodeKey = field(init=False)

    def __post_init__(self) -> None:
        self.evaluations = evaluations_of(self.params.scheduler, self.params.drawn_steps)
        self.key = BatchKey.of(self.params)
        self.decode_key = DecodeKey.of(self.params)

    @property
    def model(self) -> str:
        return self.params.model

    @property
    def seed(self) -> int:
        return self.params.seed_of(self.index)

    @property
    def size(self) -> tuple[int, int]:
        return self.params.width, self.params.height

    @property
    def own_call(self) -> bool:
        """Whether it shares no model call, so that other requests cannot influence its bits."""
        return self.suspect or self.params.reproducible == "strict"

    @property
    def guided_evaluations(self) -> int:
        """The first so many evaluations have guidance; the rest have none (quality tier)."""
        if not self.guided:
            return 0
        return math.ceil(self.evaluations * self.params.guidance_stop)

    @property
    def rows(self) -> int:
        """UNet rows of its next evaluation: one, and with guidance a second, unconditional one."""
        return 2 if self.step < self.guided_evaluations else 1

    @property
    def denoised(self) -> bool:
        return self.step >= self.evaluations
