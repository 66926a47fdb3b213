"""Driver: what every loaded model has: a device of so much memory, calls that are timed, pixels that arrive.

Knows torch and requests; how a model draws is left to its subclasses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serve_app.engine.model.call_timer import CallTimer, Timing
from serve_app.engine.model.device import (
    SideStream,
    device_errors,
    free_memory,
)
from serve_app.engine.model.loading import ModelParts
from serve_app.engine.model.placement import placement_of
from serve_app.engine.model.safety import SafetyCheck
from serve_app.engine.request import Request
from serve_app.errors import NonFinite
from serve_app.params import GenerationParams

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Failures = dict[Request, Exception]

DECODE_BUFFERS = 7
"""Activations at full size, of the VAE's last width, that decoding holds at one time. Its last upsampling
still has twice the width: input, normalised and activated are six of them. One is for convolutions."""
MAX_DECODES = 4  # images per VAE call


class Driver(ABC):
    """`runner.Runner` over the parts of one checkpoint."""

    def __init__(self, parts: ModelParts) -> None:
        self.parts = parts
        self.pipe = parts.pipe
        self.device = parts.device
        self.safety: SafetyCheck | None = None
        if parts.safety_checker is not None:
            self.safety = SafetyCheck(parts.safety_checker, parts.feature_extractor, parts.device)
        self.placement = placement_of(parts.spec, parts.pipe, parts.device, parts.controls.values())
        self._timer = CallTimer(parts.device, parts.spec.name)
        self._beside = SideStream(parts.device)
        self._memory = free_memory(parts.device)

    # ---- what differs ----

    @abstractmethod
    def guides(self, params: GenerationParams) -> bool:
        """Whether guidance adds a second row to each evaluation."""

    @abstractmethod
    def start(self, request: Request) -> None:
        """Give the request its state. Call it from one thread only: the tokenizers are shared."""

    @abstractmethod
    def notes(self, request: Request) -> list[str]:
        """What the reader of the result should know of how it was made."""

    @property
    def decoder_width(self) -> int:
        """Channels of the VAE at the picture's full size."""
        return self.parts.vae.config.block_out_channels[0]

    @abstractmethod
    def denoise(self, requests: Sequence[Request]) -> Failures:
        """One evaluation for each request."""

    @abstractmethod
    def decode(self, requests: Sequence[Request]) -> list[Callable[[], Pixels]]:
        """For each request a function that waits for its pixels."""

    @abstractmethod
    def preview(self, request: Request) -> Callable[[], Pixels | None]:
        """A function that draws a rough picture of the request as it is now; None: it cannot be drawn."""

    # ---- what is known of the device ----

    def made_by_of(self, request: Request) -> dict[str, Any]:
        return self.parts.made_by

    def forget(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back memory of the device that no request uses: the weights have left it."""

    def timings(self) -> list[Timing]:
        """Of the calls that have ended since it was last asked."""
        return self._timer.take()

    def fits(self, params: GenerationParams) -> bool:
        """False when decoding one image alone would exceed the device's memory."""
        return self._decode_bytes(params.width, params.height) <= self._memory

    def decodes_at_once(self, size: tuple[int, int]) -> int:
        """Images of this size per VAE call that the memory allows."""
        return max(1, min(MAX_DECODES, self._memory // self._decode_bytes(*size)))

    def _decode_bytes(self, width: int, height: int) -> int:
        vae = self.parts.vae
        return width * height * self.decoder_width * vae.dtype.itemsize * DECODE_BUFFERS

    # ---- requests ----

    def check(self, request: Request, pixels: Pixels) -> None:
        """`pixels`: its finished picture. Raises Flagged."""
        if self.safety is not None:
            self.safety(pixels)

    def arriving(self, images: Tensor, finite: Tensor) -> list[Callable[[], Pixels]]:
        """Of images (n, 3, height, width) in [0, 1], for each a function that waits for its pixels. It raises
        NonFinite where a pixel is none, or `finite` (n) is false."""
        finite = finite & images.isfinite().flatten(1).all(1)
        pixels = (images.nan_to_num().float() * 255).round().to(torch.uint8)
        pixels = pixels.permute(0, 2, 3, 1).contiguous().to("cpu", non_blocking=True)
        finite = finite.to("cpu", non_blocking=True)
        arrived = self._timer.mark()

        def wait(index: int) -> Pixels:
            with device_errors():
                arrived()
            if not finite[index]:
                raise NonFinite
            return pixels[index].numpy()

        return [partial(wait, index) for index in range(len(images))]
