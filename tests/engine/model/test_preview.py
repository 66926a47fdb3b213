"""Previews: one small matrix that turns latents into colours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from serve_app.engine.model.preview import PreviewColours

CPU = torch.device("cpu")
MATRIX = torch.tensor([[0.1, 0.0, 0.0, 0.0], [0.0, 0.1, 0.0, 0.0], [0.0, 0.0, 0.05, 0.05]])


def linear(latents: Tensor) -> Tensor:
    """A decoder whose colours are linear in the latents, with eight pixels to a latent."""
    colours = torch.einsum("rc,nchw->nrhw", MATRIX.to(latents.dtype), latents) + 0.5
    return interpolate(colours, scale_factor=8)


def test_a_linear_decoder_is_fitted_exactly() -> None:
    """Each pixel of the preview has the colour that the decoder would draw there."""
    latents = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(1)) * 0.9
    drawn = PreviewColours(linear, 4, CPU, torch.float32).draw(latents)
    expected = (linear(latents)[0, :, ::8, ::8] * 255).round().permute(1, 2, 0).numpy()
    assert (drawn.shape, drawn.dtype) == ((6, 5, 3), np.uint8)
    assert np.abs(drawn.astype(int) - expected).max() <= 1


def test_noisy_latents_are_scaled_down_first() -> None:
    """At the first steps they are many times larger: their preview is not all black and white."""
    colours = PreviewColours(linear, 4, CPU, torch.float32)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    assert np.abs(colours.draw(latents * 14.6) - colours.draw(latents / latents.std())).max() <= 1
