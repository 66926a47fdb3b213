"""PictureEncoder: pixels to latents, as the plain diffusers pipelines of image-to-image and inpainting do it.

Knows the VAE and tensors; nothing of schedulers, steps or files.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.nn.functional import interpolate

from serve_app.engine.model.families import Family
from serve_app.engine.model.tiling import Tiling
from serve_app.engine.sources import Mask, Pixels

KEPT = 8
"""Encoded pictures that are held: the images of an order, and often those of several, start from one."""


class PictureEncoder:
    """Of one model. Call it from one thread only: while a picture that repeats is encoded, the encoder's
    convolutions are replaced."""

    def __init__(self, vae: Any, family: Family, device: torch.device) -> None:
        self._vae, self._family, self._device = vae, family, device
        self._tiling = Tiling(vae.encoder)
        self._encoded: OrderedDict[Hashable, Any] = OrderedDict()

    def latents(
        self,
        pixels: Pixels | None,
        key: Hashable,
        generator: torch.Generator,
        dtype: torch.dtype,
        *,
        without: Mask | None = None,
        size: tuple[int, int] = (0, 0),
        tile: str = "none",
    ) -> Tensor:
        """The latents of a picture (height, width, 3), or of a grey one of `size` (width, height) where there
        is none: (1, channels, h, w). The VAE's posterior is sampled with `generator`. `without`: what is
        hidden from the encoder, as grey. `key`: equal for equal pixels."""
        key = key, tile, dtype, without is not None, size
        found = self._encoded.get(key)
        if found is None:
            image = self._image(pixels, without, size).to(self._device, dtype)
            found = self._encoded[key] = self._encode(image, tile)
            if len(self._encoded) > KEPT:
                self._encoded.popitem(last=False)
        else:
            self._encoded.move_to_end(key)
        posterior = getattr(found, "latent_dist", None)
        latents = found.latents if posterior is None else posterior.sample(generator)
        return self._family.scale(latents.to(dtype), self._vae)

    def skip_sample(self, latents: Tensor, generator: torch.Generator) -> None:
        """Draw the numbers that sampling another posterior would take: the plain pipeline samples one more,
        which a UNet of few channels does not read, and all later noise depends on it."""
        if hasattr(self._vae, "quant_conv"):  # an AutoencoderKL, which has a posterior
            randn_tensor(
                latents.shape,
                generator=generator,
                device=torch.device("cpu"),
                dtype=self._vae.dtype,
            )

    def mask(self, mask: Mask | None, like: Tensor) -> Tensor:
        """(1, 1, h, w) of 0 and 1, at the resolution and with the type of `like`; all 1 without a mask."""
        if mask is None:
            return torch.ones_like(like[:, :1])
        whole = torch.from_numpy(mask.astype(np.float32))[None, None]
        return interpolate(whole, size=like.shape[2:]).to(like.device, like.dtype)

    def _encode(self, image: Tensor, tile: str) -> Any:
        """What the VAE answers: with a posterior `latent_dist`, or with `latents`."""
        with self._tiling.along(tile):
            return self._vae.encode(image.to(self._vae.dtype))

    def _image(self, pixels: Pixels | None, without: Mask | None, size: tuple[int, int]) -> Tensor:
        """(1, 3, height, width) from -1 to 1. Its strides are those of the plain pipeline, since they decide
        which kernel a convolution takes."""
        if pixels is None:
            pixels = np.zeros((size[1], size[0], 3), np.uint8)
        values = pixels[None].astype(np.float32) / 255.0
        image = 2.0 * torch.from_numpy(values.transpose(0, 3, 1, 2)) - 1.0
        if without is not None:
            hidden = torch.from_numpy(without.astype(np.float32))[None, None]
            image = image * (hidden < 0.5)
        return image
