"""The code the denoiser works in: a fixed linear projection of 8x8 patches, zero on white.

It does not know the autoencoder, which learns to read and write this code, or any text.
A linear code is ready in seconds, so that the denoiser need not wait for a trained encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from .run import save_checkpoint

PATCH = 8  # pixels
CELL = 4  # pixels of one pixel-art pixel: a patch holds 2 x 2, in three colours each
BOXES = 3 * (PATCH // CELL) ** 2  # channels that write those exactly
CHANNELS = 24
SPREAD = 0.55  # 0: every channel as loud as the first; 1: as loud as in the pictures
LOUDNESS = 1.8  # of the first channel on patches that are not all white
# The decoder of AutoencoderTiny squeezes its input by 3 * tanh(x / 3): stay in its straight part.
SCALING_FACTOR = 3.0


@dataclass(frozen=True)
class PatchCode:
    """`weight` (CHANNELS, 3, PATCH, PATCH) maps pictures in [-1, 1] to latents."""

    weight: torch.Tensor

    @classmethod
    def fit(cls, images: torch.Tensor, patches: int = 200_000, seed: int = 0) -> PatchCode:
        """Principal axes of the patches of `images` (N, 3, H, W; -1 to 1) that are not all white.

        The first BOXES of them span the flat cells of pixel art, the rest what those leave over.
        """
        generator = torch.Generator().manual_seed(seed)
        flat = F.unfold(images - 1, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
        inked = flat[flat.abs().amax(1) > 0.02]
        inked = inked[torch.randperm(len(inked), generator=generator)[:patches]].double()
        spread = inked.T @ inked / len(inked)
        loudest = torch.linalg.eigvalsh(spread)[-1]
        boxes = _boxes()
        inside = boxes @ _axes(boxes.T @ spread @ boxes, BOXES)
        others = torch.eye(len(spread), dtype=torch.double) - boxes @ boxes.T
        outside = _axes(others @ spread @ others, CHANNELS - BOXES)
        axes = torch.cat([inside, outside], 1)
        power = torch.einsum("pc,pq,qc->c", axes, spread, axes)
        loudness = LOUDNESS * (power / loudest) ** (SPREAD / 2)
        weight = (axes / power.sqrt() * loudness).T.float()
        return cls(weight.reshape(CHANNELS, 3, PATCH, PATCH).contiguous())

    def save(self, folder: Path) -> None:
        save_checkpoint(folder / "code.pt", {"weight": self.weight})

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) in [-1, 1] -> latents (N, CHANNELS, H / PATCH, W / PATCH)."""
        return F.conv2d(images - 1, self.weight.to(images), stride=PATCH)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The best linear guess at the images; what a trained decoder must beat."""
        flat = self.weight.flatten(1)
        inverse = torch.linalg.pinv(flat).T.reshape(self.weight.shape).to(latents)
        return F.conv_transpose2d(latents, inverse, stride=PATCH) + 1


def _boxes() -> torch.Tensor:
    """Orthonormal (3 * PATCH**2, BOXES): one cell in one colour each."""
    cells = torch.eye(BOXES, dtype=torch.double).view(BOXES, 3, PATCH // CELL, PATCH // CELL)
    return cells.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3).flatten(1).T / CELL


def _axes(spread: torch.Tensor, count: int) -> torch.Tensor:
    return torch.linalg.eigh(spread)[1].flip(1)[:, :count]


def to_signed(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """float (N, 3, H, W) in [-1, 1] -> uint8 (N, H, W, 3)."""
    scaled = ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
