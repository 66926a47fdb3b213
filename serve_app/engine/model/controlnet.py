"""Control: what ControlNets (arXiv:2302.05543) add to a UNet's own activations, each row by itself.

Knows networks, rows and tensors; nothing of requests or files. Rows without control get zeros, which change
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serve_app.engine.sources import Pixels

Residuals = list[Tensor]  # of each down block, and last of the middle one: (rows, channels, h, w)


@dataclass(frozen=True, slots=True)
class Hint:
    """What one ControlNet is shown for one request. It counts from `start` to `end`, shares of the steps."""

    network: str
    image: Tensor  # (1, 3, height, width) from 0 to 1
    weight: float
    start: float
    end: float

    def strength(self, step: int, steps: int) -> float:
        """Of evaluation `step`; 0: it is left out."""
        within = step / steps >= self.start and (step + 1) / steps <= self.end
        return self.weight if within else 0.0


Shown = Sequence[tuple[Hint, float]]
"""Hints of one row, each with its strength in this evaluation."""


def hint_image(pixels: Pixels, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(1, 3, height, width), with the strides that the plain pipeline gives it: they decide which kernel a
    convolution takes."""
    values = torch.from_numpy(pixels[None].astype(np.float32) / 255.0).permute(0, 3, 1, 2)
    return values.repeat_interleave(1, dim=0).to(device, dtype)


class Control:
    """`networks`: diffusers ControlNetModels by name."""

    def __init__(self, networks: Mapping[str, Any]) -> None:
        self._networks = networks

    def residuals(
        self,
        shown: Sequence[Shown],
        samples: Tensor,
        timesteps: Tensor,
        texts: Tensor,
        added: Mapping[str, Tensor],
    ) -> Residuals | None:
        """What is to be added to the UNet's activations. None: no row has control now. The first hints of all
        rows come first, then the second ones, as several ControlNets of the plain pipeline are summed."""
        total: Residuals | None = None
        for place in range(max(map(len, shown), default=0)):
            by_network: dict[str, list[int]] = {}
            for row, hints in enumerate(shown):
                if place < len(hints) and hints[place][1] != 0:
                    by_network.setdefault(hints[place][0].network, []).append(row)
            for name, rows in by_network.items():
                hints = [shown[row][place] for row in rows]
                part = self._call(name, rows, hints, samples, timesteps, texts, added)
                spread = [_spread(tensor, rows, len(samples)) for tensor in part]
                total = (
                    spread if total is None else [a + b for a, b in zip(total, spread, strict=True)]
                )
        return total

    def _call(
        self,
        name: str,
        rows: list[int],
        hints: Shown,
        samples: Tensor,
        timesteps: Tensor,
        texts: Tensor,
        added: Mapping[str, Tensor],
    ) -> Residuals:
        everyone = len(rows) == len(samples)

        def own(tensor: Tensor) -> Tensor:
            return tensor if everyone else tensor[rows]

        network = self._networks[name]
        down, middle = network(
            own(samples)[:, : network.config.in_channels],
            own(timesteps),
            encoder_hidden_states=own(texts),
            controlnet_cond=torch.cat([hint.image for hint, _ in hints]),
            conditioning_scale=1.0,
            added_cond_kwargs={key: own(value) for key, value in added.items()} or None,
            return_dict=False,
        )
        strengths = [strength for _, strength in hints]
        return [_scaled(tensor, strengths) for tensor in (*down, middle)]


def _scaled(tensor: Tensor, strengths: list[float]) -> Tensor:
    """Each row by a Python float: a half-precision tensor of them would round."""
    if len(set(strengths)) == 1:
        return tensor * strengths[0]
    return torch.cat([row * s for row, s in zip(tensor.split(1), strengths, strict=True)])


def _spread(tensor: Tensor, rows: list[int], count: int) -> Tensor:
    """At these rows of `count`, with zeros in all others."""
    if len(rows) == count:
        return tensor
    whole = tensor.new_zeros((count, *tensor.shape[1:]))
    whole[rows] = tensor
    return whole
