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

from .run import RecipeError, load_checkpoint, require, save_checkpoint

PATCH = 8  # pixels
CHANNELS = 20
SPREAD = 0.55  # 0: every channel as loud as the first; 1: as loud as in the pictures
LOUDNESS = 1.8  # of the first channel on patches that are not all white
# The decoder of AutoencoderTiny squeezes its input by 3 * tanh(x / 3): stay in its straight part.
SCALING_FACTOR = 3.0


@dataclass(frozen=True)
class PatchCode:
    """`weight` (CHANNELS, 3, PATCH, PATCH) maps pictures in [-1, 1] to latents."""

    weight: torch.Tensor

    @classmethod
    def fit(
        cls,
        views: np.ndarray,
        patches: int = 200_000,
        seed: int = 0,
        kept: PatchCode | None = None,
    ) -> PatchCode:
        """Principal axes of the patches of `views` (N, H, W, 3; uint8) that are not all white.

        The channels of `kept` stay the first ones, so that networks trained on it can go on.
        """
        draw = np.random.default_rng(seed)
        chosen = views[draw.permutation(len(views))[:800]]
        flat = F.unfold(to_signed(chosen) - 1, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
        inked = flat[flat.abs().amax(1) > 0.02]
        inked = inked[torch.from_numpy(draw.permutation(len(inked))[:patches])].double()
        spread = inked.T @ inked / len(inked)
        loudest = torch.linalg.eigvalsh(spread)[-1]
        known = torch.empty(0, flat.shape[-1]) if kept is None else kept.weight.flatten(1)
        basis = torch.linalg.qr(known.double().T).Q
        rest = torch.eye(len(spread), dtype=torch.double) - basis @ basis.T
        missing = CHANNELS - len(known)
        power, axes = torch.linalg.eigh(rest @ spread @ rest)
        power, axes = power.flip(0)[:missing], axes.flip(1)[:, :missing]
        loudness = LOUDNESS * (power / loudest) ** (SPREAD / 2)
        weight = torch.cat([known, (axes / power.sqrt() * loudness).T.float()])
        return cls(weight.reshape(CHANNELS, 3, PATCH, PATCH).contiguous())

    def save(self, folder: Path) -> None:
        save_checkpoint(folder / "code.pt", {"weight": self.weight})

    @classmethod
    def load(cls, folder: Path) -> PatchCode:
        state = load_checkpoint(require(folder / "code.pt", "data"))
        if state is None:
            raise RecipeError(f"{folder / 'code.pt'} cannot be read: run the data command again")
        return cls(state["weight"])

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) in [-1, 1] -> latents (N, CHANNELS, H / PATCH, W / PATCH)."""
        return F.conv2d(images - 1, self.weight, stride=PATCH)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The best linear guess at the images; what a trained decoder must beat."""
        flat = self.weight.flatten(1)
        inverse = torch.linalg.pinv(flat).T.reshape(self.weight.shape)
        return F.conv_transpose2d(latents, inverse, stride=PATCH) + 1


def to_signed(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """float (N, 3, H, W) in [-1, 1] -> uint8 (N, H, W, 3)."""
    scaled = ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
    return scaled.permute(0, 2, 3, 1).contiguous().numpy()
