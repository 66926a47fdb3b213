"""PreviewColours: latents to a rough small picture, by one small matrix that is fitted to the decoder.

Knows tensors; nothing of requests. One matrix product costs far less than a VAE call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

SIDE = 16  # latents per side of the picture that the matrix is fitted to


class PreviewColours:
    """`decode` maps latents (1, channels, h, w) to images (1, 3, h f, w f) in [0, 1]."""

    def __init__(
        self,
        decode: Callable[[Tensor], Tensor],
        channels: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Least squares from random latents to the mean colour of the pixels they decode to."""
        generator = torch.Generator("cpu").manual_seed(0)
        latents = torch.randn(1, channels, SIDE, SIDE, generator=generator)
        latents = avg_pool2d(latents, 3, 1, 1) * 3  # smooth, like the latents of real images
        images = decode(latents.to(device, dtype)).float().cpu()
        colours = avg_pool2d(images, images.shape[-1] // SIDE)[0].flatten(1).T
        fit = torch.linalg.lstsq(_with_one(latents[0]).flatten(1).T, colours)
        self._matrix = fit.solution.T.to(device)  # (3, channels + 1)

    def draw(self, latents: Tensor) -> Any:
        """uint8 pixels (h, w, 3) of latents (1, channels, h, w) at any noise level."""
        flat = latents[0].float()
        flat = _with_one(flat / flat.std().clamp(min=1.0))
        colours = torch.einsum("rc,chw->hwr", self._matrix, flat)
        return (colours.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _with_one(latents: Tensor) -> Tensor:
    """Add a constant channel, so that the fit has an offset."""
    return torch.cat([latents, torch.ones_like(latents[:1])])
