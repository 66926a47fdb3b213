"""ModelRunner: prompts to embeddings, one UNet call for many requests, latents to pixels.

Knows torch and the loaded parts; nothing of deadlines, jobs or threads. `denoise` and `decode` only queue
work on the device and do not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serve_app.engine.model.call_timer import CallTimer, Timing
from serve_app.engine.model.controlnet import Control
from serve_app.engine.model.device import (
    SideStream,
    as_render_error,
    device_errors,
    free_memory,
)
from serve_app.engine.model.embeddings import Embeddings
from serve_app.engine.model.encoding import PictureEncoder
from serve_app.engine.model.families import FAMILIES, TextCache
from serve_app.engine.model.loading import ModelParts
from serve_app.engine.model.loras import Loras
from serve_app.engine.model.nonblocking import nonblocking
from serve_app.engine.model.preview import PreviewColours
from serve_app.engine.model.safety import SafetyCheck
from serve_app.engine.model.tiling import Tiling
from serve_app.engine.model.trajectory import Schedulers, Trajectory
from serve_app.engine.model.unet import Rows, SharedUnet
from serve_app.engine.request import Request, Stage
from serve_app.engine.runner import DeviceLost
from serve_app.errors import NonFinite, OutOfMemory, RenderError
from serve_app.params import GenerationParams

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Failures = dict[Request, Exception]

DECODE_BUFFERS = 7
"""Activations at full size, of the VAE's last width, that decoding holds at one time. Its last upsampling
still has twice the width: input, normalised and activated are six of them. One is for convolutions."""
MAX_DECODES = 4  # images per VAE call


class ModelRunner:
    """`runner.Runner` over the parts of one checkpoint. `denoise` and `decode` take requests of one batch."""

    def __init__(self, parts: ModelParts) -> None:
        self.parts = parts
        self.pipe = parts.pipe
        self.device = parts.device
        self.texts = TextCache()
        self.family = FAMILIES[parts.spec.family](parts.pipe, parts.device, self.texts)
        self.schedulers = Schedulers(parts.pipe.scheduler.config)
        self.unet = SharedUnet(parts.pipe.unet, parts.device, Control(parts.controls))
        # Of a VAE its decoder alone: another thread may be encoding a picture.
        self._tilings = {id(parts.pipe.unet): Tiling(parts.pipe.unet)}
        self._tilings |= {id(network): Tiling(network) for network in parts.controls.values()}
        self._tilings |= {id(v): Tiling(v.decoder) for v in (parts.vae, parts.tiny_decoder) if v}
        self._encoder = PictureEncoder(parts.vae, self.family, parts.device)
        self.loras = Loras(parts.pipe, parts.loras, parts.device)
        self.family.embeddings = Embeddings(parts.pipe, parts.embeddings)
        self.safety: SafetyCheck | None = None
        if parts.safety_checker is not None:
            self.safety = SafetyCheck(parts.safety_checker, parts.feature_extractor, parts.device)
        self.embeds_guidance = parts.pipe.unet.config.time_cond_proj_dim is not None
        self._timer = CallTimer(parts.device)
        self._beside = SideStream(parts.device)
        self._memory = free_memory(parts.device)

    @property
    def made_by(self) -> dict[str, Any]:
        return self.parts.made_by

    def guides(self, params: GenerationParams) -> bool:
        """Whether guidance adds a second row to each evaluation."""
        return params.guidance_scale > 1 and not self.embeds_guidance

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
        return (
            width * height * vae.config.block_out_channels[0] * vae.dtype.itemsize * DECODE_BUFFERS
        )

    # ---- one request ----

    @torch.inference_mode()
    def start(self, request: Request) -> None:
        """Give the request its trajectory. Call it from one thread only: the tokenizers are shared."""
        try:
            with nonblocking(self.device), ExitStack() as adapted:
                loras = self.loras.load(request.params.loras)
                for part in ("text_encoder", "text_encoder_2") if loras else ():
                    adapted.enter_context(self.loras.on(part, loras))
                state = Trajectory.begin(
                    request,
                    self.pipe,
                    self.family,
                    self.schedulers,
                    self._encoder,
                    self.device,
                    loras,
                )
        except Exception as error:
            raise as_render_error(error) from error
        request.state = state
        request.key = replace(request.key, windows=state.positive.windows)
        request.evaluations = len(state.timesteps)

    def check(self, pixels: Pixels) -> None:
        """`pixels`: one finished picture. Raises Flagged."""
        if self.safety is not None:
            self.safety(pixels)

    def notes(self, request: Request) -> list[str]:
        """What the reader of the result should know of how it was made."""
        params, state = request.params, request.state
        notes: list[str] = []
        for name, text in (("prompt", state.positive), ("negative_prompt", state.negative)):
            if text is not None and text.truncated:
                notes.append(f"{name}_truncated: {text.used} of {text.tokens} tokens used")
        if state.positive.cuts_subject:
            notes.append("subject_truncated: the model read your own words only in part")
        if request.guided and params.guidance_stop < 1:
            guided = request.guided_evaluations
            notes.append(f"guidance_stop: guided for {guided} of {request.evaluations} evaluations")
        mask = None if request.source is None else request.source.mask
        if mask is not None and not mask.any():
            notes.append("mask_empty: nothing of the mask is white, so nothing was drawn anew")
        if params.decoder == "tiny":
            notes.append("tiny_decoder: decoded by a small approximation of the VAE")
        if state.decoded_in_parts:
            notes.append("decoded_in_parts: the device had no memory for the whole picture at once")
        return notes

    # ---- many requests ----

    @torch.inference_mode()
    def denoise(self, requests: Sequence[Request]) -> Failures:
        """One evaluation for each request. If the UNet call fails it raises, and no request has moved.

        Returns the errors of single requests' diffusers schedulers; the other requests have moved.
        """
        rows = sum(r.rows for r in requests)
        usual = not any(r.params.control for r in requests)  # else it says nothing of other calls
        measured = self._timer.measure(Stage.DENOISING, requests[0].size, rows)
        with device_errors(), measured if usual else nullcontext():
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
            latents = [r.state.latents for r in requests]
            images = self._decoded(requests, latents)
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
        colours, latents = self.preview_colours, request.state.latents
        draw = torch.inference_mode()(lambda: colours.draw(latents))
        return self._beside.later(latents, draw)

    # ---- model calls ----

    def predict(self, requests: Sequence[Request]) -> Sequence[Tensor]:
        """One UNet call: the predicted noise of each request's rows, (1 or 2, channels, h, w)."""
        params = requests[0].params
        eager = params.reproducible == "strict" or params.tile != "none" or bool(params.loras)
        rows, loras = rows_of(requests), requests[0].state.loras
        with ExitStack() as changed:
            for network in (self.pipe.unet, *self.parts.controls.values()):
                changed.enter_context(self._tilings[id(network)].along(params.tile))
            changed.enter_context(self.loras.on("unet", loras))
            return self.unet(rows, eager=eager).split([request.rows for request in requests])

    def _decoded(self, requests: Sequence[Request], latents: Sequence[Tensor]) -> Tensor:
        """A single image that runs out of memory is decoded again, in overlapping parts. One that is to
        repeat cannot be: the parts would wrap around, each by itself."""
        decoder, tile = requests[0].params.decoder, requests[0].params.tile
        whole = decoder == "tiny" or tile != "none" or not hasattr(self.parts.vae, "tiled_decode")
        try:
            with device_errors():
                return self.images_of(latents, decoder, tile)
        except OutOfMemory:
            if len(requests) > 1 or whole:
                raise
        requests[0].state.decoded_in_parts = True
        return self.images_of(latents, decoder, in_parts=True)

    def images_of(
        self, latents: Sequence[Tensor], decoder: str, tile: str = "none", *, in_parts: bool = False
    ) -> Tensor:
        """One VAE call: images (n, 3, height, width) in [0, 1]. `decoder`: full or tiny. `tile`: none, x, y
        or both."""
        vae = self.parts.vae
        if decoder == "tiny":
            if self.parts.tiny_decoder is None:
                raise RenderError("this model has no tiny decoder")
            vae = self.parts.tiny_decoder
            batch = torch.cat(list(latents)) / vae.config.scaling_factor
        else:
            with nonblocking(self.device):
                batch = self.family.unscale(torch.cat(list(latents)).to(vae.dtype), vae)
        decode = vae.tiled_decode if in_parts else vae.decode
        with self._tilings[id(vae)].along(tile):
            images = decode(batch.to(vae.dtype), return_dict=False)[0]
        return (images * 0.5 + 0.5).clamp(0, 1)

    @cached_property
    def preview_colours(self) -> PreviewColours:
        """Fitted to the decoder at first use, which takes one VAE call."""
        return PreviewColours(
            lambda latents: self.images_of([latents], "full"),
            self.parts.vae.config.latent_channels,
            self.device,
            self.parts.dtype,
        )


def rows_of(requests: Sequence[Request]) -> Rows:
    """The UNet's inputs for the next evaluation of each request."""
    rows = Rows()
    for request in requests:
        request.state.add_rows(rows, request.step, request.rows)
    return rows
