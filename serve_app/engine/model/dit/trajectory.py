"""TransformerTrajectory: the tensors of a request that a transformer draws, and how evaluations change them.

Knows that request's own diffusers scheduler; nothing of other requests or of calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from serve_app.engine.model.dit.family import (
    Branch,
    Inputs,
    Prompt,
    TransformerFamily,
    TransformerRow,
)
from serve_app.engine.model.trajectory import Schedulers, step_arguments
from serve_app.engine.request import Request
from serve_app.params import GenerationParams


@dataclass(slots=True)
class TransformerTrajectory:
    """Its diffusers scheduler object belongs to it alone, because multistep schedulers keep a history."""

    family: TransformerFamily
    latents: Tensor  # as the family has them, with a first dimension of 1
    scheduler: Any  # of diffusers
    timesteps: list[Tensor]  # 0-d each
    arguments: dict[str, Any]  # further ones of `scheduler.step`
    prompts: dict[Branch, Prompt]
    extra: Inputs  # what each of its rows has beside latents and text
    decoded_in_parts: bool = False

    @classmethod
    def begin(
        cls, request: Request, family: TransformerFamily, schedulers: Schedulers
    ) -> TransformerTrajectory:
        """Encode the prompts, draw the noise, set the timesteps, as the diffusers pipeline does."""
        params = request.params
        prompts: dict[Branch, Prompt] = {"positive": family.prompt(params.prompt, "positive")}
        if request.guided:
            prompts["negative"] = family.prompt(family.negative(params), "negative")
        generator = torch.Generator("cpu").manual_seed(request.seed)
        latents, extra = family.noise(request.size, generator)
        scheduler = schedulers.new(params.scheduler)
        # On the device, as the plain pipeline has them: a number of the host rounds differently in bfloat16.
        family.set_timesteps(scheduler, params.steps, latents)
        # Without this the first step searches for its index, which waits for the device.
        scheduler.set_begin_index(0)
        return cls(
            family=family,
            latents=latents,
            scheduler=scheduler,
            timesteps=list(scheduler.timesteps),
            arguments=step_arguments(scheduler, generator),
            prompts=prompts,
            extra=extra,
        )

    def branches(self, count: int) -> list[Branch]:
        """Of an evaluation with so many rows, in the plain pipeline's order."""
        return [b for b in self.family.branches if b == "positive" or count == 2]

    def rows(self, step: int, count: int, params: GenerationParams) -> list[TransformerRow]:
        """Inputs of evaluation `step`: 1 row, or 2 with guidance."""
        return [
            self.family.row(
                self.latents, self.timesteps[step], self.prompts[b].inputs, params, self.extra
            )
            for b in self.branches(count)
        ]

    def advance(self, predictions: Sequence[Tensor], step: int, params: GenerationParams) -> None:
        """One step of the diffusers scheduler. `predictions`: one of each row."""
        named = dict(zip(self.branches(len(predictions)), predictions, strict=True))
        self.latents = self.scheduler.step(
            self.family.guided(named, params),
            self.timesteps[step],
            self.latents,
            **self.arguments,
            return_dict=False,
        )[0]
