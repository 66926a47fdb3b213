"""Driver: what every loaded model does alike: one network call for many requests, a step of each one's own
scheduler, latents to pixels.

Knows torch, requests and devices; how a network is called and a text encoded is left to its subclasses.
`denoise` and `decode` only queue work on the device and do not wait for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serve_app.engine.model.call_timer import CallTimer, Timing
from serve_app.engine.model.device import (
    SideStream,
    as_render_error,
    device_errors,
    free_memory,
)
from serve_app.engine.model.loading import ModelParts
from serve_app.engine.model.nonblocking import nonblocking
from serve_app.engine.model.placement import placement_of
from serve_app.engine.model.preview import PreviewColours
from serve_app.engine.model.safety import SafetyCheck
from serve_app.engine.request import Request, Stage
from serve_app.engine.runner import DeviceLost
from serve_app.errors import NonFinite, OutOfMemory
from serve_app.params import GenerationParams

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Failures = dict[Request, Exception]

DECODE_BUFFERS = 7
"""Activations at full size, of the VAE's last width, that decoding holds at one time. Its last upsampling
still has twice the width: input, normalised and activated are six of them. One is for convolutions."""
MAX_DECODES = 4  # images per VAE call


class Driver(ABC):
    """`runner.Runner` over the parts of one checkpoint. `denoise` and `decode` take requests of one batch.
    A request's `state` holds its `latents`, and moves by `advance(predictions, step, params)`."""

    def __init__(self, parts: ModelParts) -> None:
        self.parts = parts
        self.pipe = parts.pipe
        self.device = parts.device
        self.safety: SafetyCheck | None = None
        if parts.safety_checker is not None:
            self.safety = SafetyCheck(parts.safety_checker, parts.feature_extractor, parts.device)
        self.placement = placement_of(parts.spec, parts.pipe, parts.device, parts.controls.values())
        self._timer = CallTimer(parts.device)
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

    @abstractmethod
    def predict(self, requests: Sequence[Request]) -> Sequence[Any]:
        """What the network says of each request, as its state's `advance` takes it."""

    @abstractmethod
    def compile_for(self, requests: Sequence[Request]) -> None:
        """Compile the network for the size and the number of these requests' rows."""

    @abstractmethod
    def images(self, requests: Sequence[Request]) -> Tensor:
        """One VAE call: images (n, 3, height, width) in [0, 1]. All are of one size, decoder and tiling."""

    @abstractmethod
    def spatial(self, request: Request) -> Tensor:
        """Its latents as (1, channels, h, w)."""

    @abstractmethod
    def image_of(self, latents: Tensor) -> Tensor:
        """One VAE call: (1, 3, height, width) in [0, 1], of latents as `spatial` gives them."""

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """Of what `spatial` gives."""

    @property
    def decoder_width(self) -> int:
        """Channels of the VAE at the picture's full size."""
        return self.parts.vae.config.block_out_channels[0]

    def decodes_in_parts(self, request: Request) -> bool:
        """Whether its picture may be decoded in overlapping parts, which take less memory."""
        return False

    def images_in_parts(self, request: Request) -> Tensor:
        """As `images`, in overlapping parts."""
        return self.images([request])

    # ---- what is known of the device ----

    @property
    def made_by(self) -> dict[str, Any]:
        return self.parts.made_by

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

    def check(self, pixels: Pixels) -> None:
        """`pixels`: one finished picture. Raises Flagged."""
        if self.safety is not None:
            self.safety(pixels)

    @torch.inference_mode()
    def denoise(self, requests: Sequence[Request]) -> Failures:
        """One evaluation for each request. If the network call fails it raises, and no request has moved.

        Returns the errors of single requests' diffusers schedulers; the other requests have moved.
        """
        rows = sum(r.rows for r in requests)
        usual = not any(r.params.control for r in requests)  # else it says nothing of other calls
        measured = self._timer.measure(Stage.DENOISING, requests[0].size, rows)
        with device_errors(), self.placement.on("network"), measured if usual else nullcontext():
            predictions = self.predict(requests)
        failures: Failures = {}
        with nonblocking(self.device):
            for request, noise in zip(requests, predictions, strict=True):
                try:
                    request.state.advance(noise, request.step, request.params)
                except Exception as error:
                    failures[request] = as_render_error(error)
        if lost := next((e for e in failures.values() if isinstance(e, DeviceLost)), None):
            raise lost
        return failures

    @torch.inference_mode()
    def decode(self, requests: Sequence[Request]) -> list[Callable[[], Pixels]]:
        """For each request a function that waits for its pixels (height, width, 3).

        All requests have the same size and decoder. Decoding is only queued on the device; call the
        functions in other threads. They raise NonFinite or DeviceLost.
        """
        size = requests[0].size
        with device_errors(), self._timer.measure(Stage.DECODING, size, len(requests)):
            images = self._images(requests)
            latents = [r.state.latents for r in requests]
            finite = torch.stack([x.isfinite().all() for x in latents])
            finite &= images.isfinite().flatten(1).all(1)
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

        return [partial(wait, index) for index in range(len(requests))]

    def preview(self, request: Request) -> Callable[[], Pixels]:
        """A function that draws a rough picture of the request as it is now, one pixel per latent.

        Call it in another thread: it waits for the device.
        """
        colours, latents = self.preview_colours, self.spatial(request)
        draw = torch.inference_mode()(lambda: colours.draw(latents))
        return self._beside.later(latents, draw)

    def _images(self, requests: Sequence[Request]) -> Tensor:
        """A single image that runs out of memory is decoded again, in overlapping parts."""
        try:
            with device_errors():
                return self.images(requests)
        except OutOfMemory:
            if len(requests) > 1 or not self.decodes_in_parts(requests[0]):
                raise
        requests[0].state.decoded_in_parts = True
        return self.images_in_parts(requests[0])

    @cached_property
    def preview_colours(self) -> PreviewColours:
        """Fitted to the decoder at first use, which takes one VAE call."""
        return PreviewColours(self.image_of, self.latent_channels, self.device, self.parts.dtype)
