"""Muon for convolutions: momentum whose update is made orthogonal, AdamW for everything small.

It does not know the model beyond the shapes of its parameters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

ROUNDS = 4  # of the Newton-Schulz iteration; the update need only be roughly orthogonal
MIN_SIDE = 32  # narrower matrices go to AdamW


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum; the update has the size of AdamW's, so learning rates carry over.

    Matrices of one shape are made orthogonal together: a GPU waits for none of them.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: torch.Tensor) -> None:
        super().__init__(params, {"lr": lr, "momentum": 0.95, "weight_decay": 0.01})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.flatten(1).shape].append(parameter)
            for alike in by_shape.values():
                self._update(alike, group)

    def _update(self, alike: list[nn.Parameter], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in alike if p.grad is not None]
        averages = [self._average(p) for p in alike]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, averages, group["momentum"])
        stacked = torch.stack([d.flatten(1) for d in directions])
        size = 0.2 * max(stacked.shape[1:]) ** 0.5
        updates = orthogonal(stacked) * (-size * group["lr"])
        values: list[torch.Tensor] = list(alike)
        torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(values, [u.view(p.shape) for u, p in zip(updates, alike, strict=True)])

    def _average(self, parameter: nn.Parameter) -> torch.Tensor:
        state = self.state[parameter]
        if not state:
            state["average"] = torch.zeros_like(parameter)
        return state["average"]


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """(N, R, C): near the closest matrices with all singular values equal to one."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if x.is_cuda:
        x = x.bfloat16()
    for _ in range(ROUNDS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=-4.775, alpha=2.0315)
        x = torch.baddbmm(x, polynomial, x, beta=3.4445)
    return (x.mT if tall else x).to(matrices.dtype)


def optimizers(model: nn.Module, lr: float) -> tuple[list[torch.optim.Optimizer], torch.Tensor]:
    """Optimisers of all parameters, and the learning rate they share: a number on the device, which
    a captured graph reads anew each time."""
    wide, small = [], []
    for parameter in model.parameters():
        inner = parameter.ndim >= 2 and min(parameter.flatten(1).shape) >= MIN_SIDE
        (wide if inner else small).append(parameter)
    on_gpu = small[0].is_cuda
    rate = torch.tensor(lr, device=small[0].device)
    adam = torch.optim.AdamW(
        small, rate, betas=(0.9, 0.98), weight_decay=0.01, foreach=on_gpu, capturable=on_gpu
    )
    return [adam, Muon(wide, rate)], rate
