"""SharedUnet: one UNet call over the rows of many requests, eager or compiled.

Knows tensors and row counts; nothing of requests, guidance or schedulers. Compiled code exists per image
size: one graph for a single row, and one for any number from two on. It is made before the first job and
never replaced: tracing is Python, which would hold up the loop, and compiled code rounds differently. A size
without compiled code runs eagerly.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from serve_app.engine.model.controlnet import Control, Shown
from serve_app.engine.model.nonblocking import nonblocking
from serve_app.engine.model.references import LookRow, Reference

MAX_GRAPHS = 64  # compiled shapes per network


Size = tuple[int, int, int]  # latent height and width, tokens


@dataclass(slots=True)
class Rows:
    """Inputs of one call: one entry per row in every list, each tensor with a first dimension of 1."""

    samples: list[Tensor] = field(default_factory=list[Tensor])  # (1, channels, h, w)
    timesteps: list[Tensor] = field(default_factory=list[Tensor])  # 0-d
    texts: list[Tensor] = field(default_factory=list[Tensor])  # (1, tokens, width)
    conditions: list[dict[str, Tensor]] = field(default_factory=list[dict[str, Tensor]])
    guidance: list[Tensor] = field(default_factory=list[Tensor])  # (1, width), or empty
    shown: list[Shown] = field(default_factory=list[Shown])  # to ControlNets; empty for most rows
    looks: list[LookRow] = field(default_factory=list[LookRow])  # of pictures to take after


class SharedUnet:
    """Calls compiled code where it exists for the size, else `network`, which is the diffusers UNet."""

    def __init__(
        self,
        network: Callable[..., Any],
        device: torch.device,
        control: Control | None = None,
        reference: Reference | None = None,
    ) -> None:
        self.network = network
        self._reference = reference
        self._control = control
        self.device = device
        self.sizes: set[Size] = set()  # that are compiled
        self._fast: Callable[..., Any] | None = None  # the compiled network

    def __call__(self, rows: Rows, *, eager: bool = False) -> Tensor:
        """Noise predictions (rows, channels, h, w); each row has its own timestep and text."""
        eager = eager or any(rows.shown) or any(rows.looks)
        if self._fast is not None and not eager and _size(rows) in self.sizes:
            return self._call(self._fast, rows)
        return self._call(self.network, rows)

    def compile_for(self, rows: Rows, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compile for the size and the number of these rows, if that is not done yet."""
        if self._fast is None:
            compile_network: Any = torch.compile  # its types lack `recompile_limit`, and callables
            self._fast = compile_network(
                self.network,
                fullgraph=True,
                dynamic=False,  # but for the rows, which `_call` marks
                backend=backend,
                recompile_limit=MAX_GRAPHS,  # torch's global setting holds in one thread only
            )
        assert self._fast is not None
        self._call(self._fast, rows)
        self.sizes.add(_size(rows))

    def _call(self, network: Callable[..., Any], rows: Rows) -> Tensor:
        # As floats they give bit-equal results to the pipeline's integers.
        timesteps = torch.stack(rows.timesteps).float()
        with nonblocking(self.device):
            timesteps = timesteps.to(self.device)
        conditions = rows.conditions
        added = {name: torch.cat([c[name] for c in conditions]) for name in conditions[0]}
        samples = torch.cat(rows.samples).to(rows.texts[0].dtype)
        texts = torch.cat(rows.texts)
        guidance = torch.cat(rows.guidance) if rows.guidance else None
        if network is self._fast and len(samples) > 1:
            for x in (samples, timesteps, texts, guidance, *added.values()):
                if x is not None:
                    torch._dynamo.mark_dynamic(x, 0)
        more: dict[str, Any] = {}
        if self._control is not None and any(rows.shown):
            residuals = self._control.residuals(rows.shown, samples, timesteps, texts, added)
            if residuals is not None:
                more["down_block_additional_residuals"] = tuple(residuals[:-1])
                more["mid_block_additional_residual"] = residuals[-1]
        looks = nullcontext(texts)
        if self._reference is not None and any(rows.looks):
            looks = self._reference.on(texts, rows.looks)
        with looks as read:
            return network(
                samples,
                timesteps,
                encoder_hidden_states=read,
                timestep_cond=guidance,
                added_cond_kwargs=added or None,
                return_dict=False,
                **more,
            )[0]


def _size(rows: Rows) -> Size:
    height, width = rows.samples[0].shape[-2:]
    return height, width, rows.texts[0].shape[1]
