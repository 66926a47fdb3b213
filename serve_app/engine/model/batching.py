"""BatchingDriver: one network call for many requests, a step of each one's own scheduler, latents to pixels.

Knows torch, requests and devices; how a network is called and a text encoded is left to its subclasses.
`denoise` and `decode` only queue work on the device and do not wait for it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from serve_app.engine.model.device import as_render_error, device_errors
from serve_app.engine.model.driver import Driver, Failures, Pixels
from serve_app.engine.model.nonblocking import nonblocking
from serve_app.engine.model.preview import PreviewColours
from serve_app.engine.request import Request, Stage
from serve_app.engine.runner import DeviceLost
from serve_app.errors import OutOfMemory


class BatchingDriver(Driver):
    """`denoise` and `decode` take requests of one batch. A request's `state` holds its `latents`, and moves
    by `advance(predictions, step, params)`."""

    # ---- what differs ----

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

    def decodes_in_parts(self, request: Request) -> bool:
        """Whether its picture may be decoded in overlapping parts, which take less memory."""
        return False

    def images_in_parts(self, request: Request) -> Tensor:
        """As `images`, in overlapping parts."""
        return self.images([request])

    # ---- requests ----

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
            finite = torch.stack([r.state.latents.isfinite().all() for r in requests])
            return self.arriving(images, finite)

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
