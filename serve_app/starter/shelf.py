"""Encoded training pictures and their captions, kept on the device to be learned from again.

It does not know how they were made. Making one anew costs as much as learning from it.
"""

from __future__ import annotations

import torch


class Shelf:
    """The newest `size` of what was put: latents, caption states, and whether anything is said."""

    def __init__(self, size: int) -> None:
        self.size, self.filled, self.next = size, 0, 0
        self.kept: tuple[torch.Tensor, ...] = ()

    def put(self, *rows: torch.Tensor) -> None:
        """Each of `rows` is (N, ...), N a divisor of `size`; they replace the oldest N."""
        count = len(rows[0])
        if not self.kept:
            self.kept = tuple(row.new_empty(self.size, *row.shape[1:]) for row in rows)
        for mine, given in zip(self.kept, rows, strict=True):
            mine[self.next : self.next + count] = given
        self.next = (self.next + count) % self.size
        self.filled = max(self.filled, self.next or self.size)

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """`count` different ones at random, in random order."""
        order = torch.randperm(self.filled, generator=generator, device=generator.device)
        return tuple(mine[order[:count]] for mine in self.kept)
