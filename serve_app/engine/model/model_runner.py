"""ModelRunner: prompts to embeddings, one denoising evaluation for many requests, latents to pixels.

Knows torch and the loaded parts; nothing of deadlines, jobs or threads. Every call runs in the
thread that makes it, and nothing in `denoise` waits for the device.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serve_app.engine.costs import CostTable
from serve_app.engine.model.call_timer import CallClock, Timing
from serve_app.engine.model.families import FAMILIES, TextCache
from serve_app.engine.model.loading import ModelParts
from serve_app.engine.model.preview import PreviewColours
from serve_app.engine.model.safety import SafetyCheck
from serve_app.engine.model.trajectory import Schedulers, Trajectory
from serve_app.engine.model.unet import ROW_BUCKETS, Rows, SharedUnet
from serve_app.engine.model.waits import no_waits
from serve_app.engine.request import Request, Stage
from serve_app.engine.runner import DeviceLost
from serve_app.errors import NonFinite, OutOfMemory, RenderError
from serve_app.params import GenerationParams

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Failures = dict[Request, Exception]

WARM_UP_SECONDS = 2.0
DECODE_BUFFERS = 4  # full-size activations of the VAE's widest stage that live at one moment


class ModelRunner:
    """The model side of the engine. `denoise` and `decode` take requests of one batch."""

    def __init__(self, parts: ModelParts) -> None:
        self.parts = parts
        self.pipe = parts.pipe
        self.device = parts.device
        self.texts = TextCache()
        self.family = FAMILIES[parts.spec.family](parts.pipe, parts.device, self.texts)
        self.schedulers = Schedulers(parts.pipe.scheduler.config)
        self.unet = SharedUnet(parts.pipe.unet, parts.device)
        self.safety: SafetyCheck | None = None
        if parts.safety_checker is not None:
            self.safety = SafetyCheck(parts.safety_checker, parts.feature_extractor, parts.device)
        self.embeds_guidance = parts.pipe.unet.config.time_cond_proj_dim is not None
        self._clock = CallClock(parts.device)
        self._memory = _device_memory(parts.device)

    @property
    def made_by(self) -> dict[str, Any]:
        return self.parts.made_by

    def guides(self, params: GenerationParams) -> bool:
        """Whether guidance costs this order a second row per evaluation."""
        return params.guidance_scale > 1 and not self.embeds_guidance

    def timings(self) -> list[Timing]:
        """Of calls that have ended since the last time."""
        return self._clock.take()

    def fits(self, params: GenerationParams) -> bool:
        """False when decoding one image alone would overflow the device."""
        widest = self.pipe.vae.config.block_out_channels[0]
        item = self.pipe.vae.dtype.itemsize
        return params.width * params.height * widest * item * DECODE_BUFFERS <= self._memory

    # ---- one request ----

    @torch.inference_mode()
    def start(self, request: Request) -> None:
        """Give the request its trajectory. Beside the loop: nothing else starts or encodes meanwhile."""
        try:
            with no_waits(self.device):
                state = Trajectory.begin(
                    request, self.pipe, self.family, self.schedulers, self.device
                )
        except Exception as error:
            raise _as_render_error(error) from error
        request.state = state
        request.evaluations = len(state.timesteps)

    def check(self, pixels: Pixels) -> None:
        """Beside the loop. Raises Flagged."""
        if self.safety is not None:
            self.safety(pixels)

    def notes(self, request: Request) -> list[str]:
        """What the reader of the result should know of how it was made."""
        params, state = request.params, request.state
        notes: list[str] = []
        for name, text in (("prompt", state.positive), ("negative_prompt", state.negative)):
            if text is not None and text.truncated:
                notes.append(f"{name}_truncated: {text.used} of {text.tokens} tokens used")
        if request.guided and params.guidance_stop < 1:
            guided = request.guided_evaluations
            notes.append(f"guidance_stop: guided for {guided} of {request.evaluations} evaluations")
        if params.decoder == "tiny":
            notes.append("tiny_decoder: decoded by a small approximation of the VAE")
        return notes

    # ---- many requests ----

    @torch.inference_mode()
    def denoise(self, requests: Sequence[Request]) -> Failures:
        """One evaluation for each. Raises when the shared call fails; then no request has moved.

        What fails for one request only is returned, and the others have moved on.
        """
        rows = sum(r.rows for r in requests)
        with _device_errors(), self._clock.measure(Stage.DENOISING, requests[0].size, rows):
            predictions = self._predict(requests)
        failures: Failures = {}
        with no_waits(self.device):
            for request, noise in zip(requests, predictions, strict=True):
                try:
                    request.state.advance(noise, request.step, request.params)
                except Exception as error:
                    failures[request] = _as_render_error(error)
        if lost := next((e for e in failures.values() if isinstance(e, DeviceLost)), None):
            raise lost
        return failures

    @torch.inference_mode()
    def decode(self, requests: Sequence[Request]) -> list[Callable[[], Pixels]]:
        """For each, what waits for its pixels (height, width, 3). Equal decoders and sizes.

        Decoding is queued like a step, so the loop goes on; whoever wants the pixels waits beside it,
        and may hear from there: NonFinite, DeviceLost.
        """
        size = requests[0].size
        with _device_errors(), self._clock.measure(Stage.DECODING, size, len(requests)):
            latents = [r.state.latents for r in requests]
            images = self._decoded(latents, requests[0].params.decoder)
            finite = torch.stack([x.isfinite().all() for x in latents])
            finite &= images.isfinite().flatten(1).all(1)
            pixels = (images.nan_to_num().float() * 255).round().to(torch.uint8)
            pixels = pixels.permute(0, 2, 3, 1).contiguous().to("cpu", non_blocking=True)
            finite = finite.to("cpu", non_blocking=True)
        arrived = self._clock.so_far()

        def wait(index: int) -> Pixels:
            with _device_errors():
                arrived()
            if not finite[index]:
                raise NonFinite
            return pixels[index].numpy()

        return [partial(wait, index) for index in range(len(requests))]

    def preview(self, request: Request) -> Callable[[], Pixels]:
        """Draws a rough picture at latent resolution, as far as the request is now.

        Not at once, for the pixels have to wait for the device, and the loop must not.
        """
        colours, latents = self._preview_colours, request.state.latents
        return torch.inference_mode()(lambda: colours.draw(latents))

    # ---- start-up ----

    @torch.inference_mode()
    def warm_up(self, max_rows: int | None = None) -> CostTable:
        """Measure calls of 1, 2, 4, ... rows at the native size until more gains nothing.

        A model that is compiled is so before this returns, or beside the loop, as its spec says.
        """
        limit = max_rows or self.parts.spec.max_rows
        compiles = self.parts.spec.compile
        if compiles is True:
            unet = self.unet.compiled()
            self._make_all(unet, limit)
            self.unet.become(unet)
        counts = (*ROW_BUCKETS, limit) if self.unet.padded else (1, 2, 4, 8, 16, 32)
        calls = {rows: self.probe(rows) for rows in counts if rows <= limit}
        measured: dict[int, float] = {}
        began = time.perf_counter()
        for rows, call in calls.items():
            measured[rows] = self._seconds(call)
            sooner = [seconds / n for n, seconds in measured.items() if n < rows]
            gained = rows < 4 or measured[rows] / rows < 0.98 * min(sooner)
            slow = time.perf_counter() - began > WARM_UP_SECONDS
            if not self.unet.padded and (not gained or slow):
                break
        # Counts take turns, so that what disturbs the device for a moment does not single one out.
        while time.perf_counter() - began < WARM_UP_SECONDS:
            for rows in measured:
                measured[rows] = min(measured[rows], self._seconds(calls[rows]))
        _ = self._preview_colours  # fitted now, not while somebody waits
        latents = self._probe_request().state.latents
        decode = self._seconds(lambda: self._decoded([latents], "full"))
        if compiles == "background":
            self.unet.compile_beside(lambda unet: self._make_all(unet, limit))
        return CostTable(self.parts.spec.native_size, measured, decode=decode)

    def probe(self, rows: int) -> Callable[[], Any]:
        """A denoising call of `rows` rows at the native size, to be timed."""
        request = self._probe_request()
        return torch.inference_mode()(lambda: self._predict([request] * rows))

    @torch.inference_mode()
    def _make_all(self, unet: SharedUnet, limit: int) -> None:
        """Compiled code for every call there will be at the native size."""
        request = self._probe_request()
        for count in [*(n for n in ROW_BUCKETS if n < limit), limit]:
            unet.make(_rows_of([request] * count))

    def _probe_request(self) -> Request:
        spec = self.parts.spec
        request = Request(
            _warm_up_params(spec.name, *spec.native_size, spec.schedulers[0]), 0, 0, False
        )
        self.start(request)
        return request

    # ---- inside ----

    def _predict(self, requests: Sequence[Request]) -> Sequence[Tensor]:
        """The noise of each request's rows: (1 or 2, channels, h, w)."""
        return self.unet(_rows_of(requests)).split([request.rows for request in requests])

    def _decoded(self, latents: Sequence[Tensor], decoder: str) -> Tensor:
        """Images (n, 3, height, width) in [0, 1]."""
        vae = self.pipe.vae
        if decoder == "tiny":
            if self.parts.tiny_decoder is None:
                raise RenderError("this model has no tiny decoder")
            vae = self.parts.tiny_decoder
            batch = torch.cat(list(latents)) / vae.config.scaling_factor
        else:
            with no_waits(self.device):
                batch = self.family.unscale(torch.cat(list(latents)).to(vae.dtype), vae)
        images = vae.decode(batch.to(vae.dtype), return_dict=False)[0]
        return (images * 0.5 + 0.5).clamp(0, 1)

    @cached_property
    def _preview_colours(self) -> PreviewColours:
        return PreviewColours(
            lambda latents: self._decoded([latents], "full"),
            self.pipe.unet.config.in_channels,
            self.device,
            self.parts.dtype,
        )

    def _seconds(self, call: Callable[[], Any]) -> float:
        """Of the second call: the first one pays for what happens only once."""
        call()
        self.synchronize()
        began = time.perf_counter()
        call()
        self.synchronize()
        return time.perf_counter() - began

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _rows_of(requests: Sequence[Request]) -> Rows:
    rows = Rows()
    for request in requests:
        request.state.add_rows(rows, request.step, request.rows)
    return rows


def _device_memory(device: torch.device) -> int:
    """Bytes that are free once the model is loaded."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def _device_errors() -> Generator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemory() from error
    except torch.AcceleratorError as error:
        raise DeviceLost() from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # how the CPU allocator says it
            raise OutOfMemory() from error
        raise


def _as_render_error(error: Exception) -> RenderError:
    if isinstance(error, RenderError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return OutOfMemory()
    if isinstance(error, torch.AcceleratorError):
        return DeviceLost()
    return RenderError(f"{type(error).__name__} in the model")


def _warm_up_params(model: str, width: int, height: int, scheduler: str) -> GenerationParams:
    return GenerationParams(
        prompt="",
        seed=0,
        width=width,
        height=height,
        steps=4,
        guidance_scale=1.0,
        scheduler=scheduler,
        model=model,
        model_revision="",
    )
