"""Muon for convolutions: momentum whose update is made orthogonal, AdamW for everything small.

It does not know the model beyond the shapes of its parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn

ROUNDS = 4  # of the Newton-Schulz iteration; the update need only be roughly orthogonal
MIN_SIDE = 32  # narrower matrices go to AdamW


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum; the update has the size of AdamW's, so learning rates carry over."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, pool: ThreadPoolExecutor) -> None:
        super().__init__(params, {"lr": lr, "momentum": 0.95, "weight_decay": 0.01})
        self.pool = pool

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            list(self.pool.map(lambda p, g=group: self._update(p, g), group["params"]))

    @torch.no_grad()
    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        if gradient is None:
            return
        if not state:
            state["average"] = torch.zeros_like(parameter)
        average = state["average"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(average, group["momentum"]).flatten(1)
        update = orthogonal(direction) * (0.2 * max(direction.shape) ** 0.5)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.view(parameter.shape), alpha=-group["lr"])


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix near the closest one with all singular values equal to one."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.T
        polynomial = torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315)
        x = torch.addmm(x, polynomial, x, beta=3.4445)
    return x.T if tall else x


def optimizers(
    model: nn.Module, lr: float, muon: bool, pool: ThreadPoolExecutor
) -> list[torch.optim.Optimizer]:
    wide, small = [], []
    for parameter in model.parameters():
        inner = parameter.ndim >= 2 and min(parameter.flatten(1).shape) >= MIN_SIDE
        (wide if muon and inner else small).append(parameter)
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(small, lr, betas=(0.9, 0.98), weight_decay=0.01)
    ]
    if wide:
        found.append(Muon(wide, lr, pool))
    return found
