"""ModelRunner: prompts to embeddings, one denoising evaluation for many requests, latents to pixels.

Knows torch and the loaded parts; nothing of deadlines, jobs or threads. Every call runs in the
thread that makes it, and nothing in `denoise` waits for the device.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from serve_app.engine.clock import CallClock
from serve_app.engine.costs import CostTable, Size
from serve_app.engine.engine import DeviceLost
from serve_app.engine.families import FAMILIES, Conditions, Text, TextCache
from serve_app.engine.loading import ModelParts
from serve_app.engine.preview import PreviewColours
from serve_app.engine.request import Request
from serve_app.errors import NonFinite, OutOfMemory, RenderError
from serve_app.params import GenerationParams
from serve_app.schedulers import SCHEDULERS

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Failures = dict[Request, Exception]

# Compiled code exists per row count: these are compiled, others padded up to the next of them.
ROW_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
WARM_UP_SECONDS = 2.0
DECODE_BUFFERS = 4  # full-size activations of the VAE's widest stage that live at one moment


@dataclass(slots=True)
class Trajectory:
    """What the device holds for one request that has started."""

    latents: Tensor  # (1, channels, height / f, width / f)
    scheduler: Any  # a diffusers scheduler of its own: its history is this request's alone
    timesteps: list[Tensor]  # 0-d each
    step_arguments: dict[str, Any]
    positive: Text
    negative: Text | None
    conditions: list[Conditions]  # per row: [negative, positive], or [positive]
    guidance_embedding: Tensor | None  # (1, time_cond_proj_dim)


class ModelRunner:
    """The model side of the engine. `denoise` and `decode` take requests of one batch."""

    def __init__(self, parts: ModelParts) -> None:
        self.parts = parts
        self.pipe = parts.pipe
        self.device = parts.device
        self.texts = TextCache()
        self.family = FAMILIES[parts.spec.family](parts.pipe, parts.device, self.texts)
        self.unet: Callable[..., Any] = parts.pipe.unet
        self.padded = parts.spec.compile
        if parts.spec.compile:
            torch._dynamo.config.recompile_limit = 8 * len(ROW_BUCKETS)  # one per size and bucket
            self.unet = torch.compile(parts.pipe.unet, fullgraph=True, dynamic=False)
        self.embeds_guidance = parts.pipe.unet.config.time_cond_proj_dim is not None
        self._clock = CallClock(parts.device)
        self._memory = _device_memory(parts.device)

    @property
    def made_by(self) -> dict[str, Any]:
        return self.parts.made_by

    def guides(self, params: GenerationParams) -> bool:
        """Whether guidance costs this order a second row per evaluation."""
        return params.guidance_scale > 1 and not self.embeds_guidance

    def timings(self) -> list[tuple[Size, int, float]]:
        """(size, rows, seconds) of denoising calls that have ended since the last time."""
        return self._clock.take()

    def fits(self, params: GenerationParams) -> bool:
        """False when decoding one image alone would overflow the device."""
        widest = self.pipe.vae.config.block_out_channels[0]
        item = self.pipe.vae.dtype.itemsize
        return params.width * params.height * widest * item * DECODE_BUFFERS <= self._memory

    # ---- one request ----

    @torch.inference_mode()
    def start(self, request: Request) -> None:
        """Encode its prompts, draw its noise, set its timesteps: what the pipeline does at first."""
        params = request.params
        positive = self.family.positive(params)
        negative = self.family.negative(params) if request.guided else None
        scheduler = new_scheduler(self.pipe.scheduler.config, params.scheduler)
        scheduler.set_timesteps(params.steps, device=self.device)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(
                0
            )  # else the first step looks it up, and waits for the device
        generator = torch.Generator("cpu").manual_seed(request.seed)
        factor = self.pipe.vae_scale_factor
        shape = (
            1,
            self.pipe.unet.config.in_channels,
            params.height // factor,
            params.width // factor,
        )
        noise = randn_tensor(
            shape, generator=generator, device=self.device, dtype=positive.hidden.dtype
        )
        rows = [negative, positive] if negative is not None else [positive]
        request.state = Trajectory(
            latents=noise * scheduler.init_noise_sigma,
            scheduler=scheduler,
            timesteps=list(scheduler.timesteps),
            step_arguments=_step_arguments(scheduler, generator),
            positive=positive,
            negative=negative,
            conditions=[self.family.conditions(params, text) for text in rows],
            guidance_embedding=self._guidance_embedding(params, noise.dtype),
        )
        request.evaluations = len(scheduler.timesteps)

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
        failures: Failures = {}
        for request in requests:
            if request.state is None:
                try:
                    self.start(request)
                except Exception as error:
                    failures[request] = _as_render_error(error)
        moving = [r for r in requests if r not in failures]
        if not moving:
            return failures
        rows = sum(r.rows for r in moving)
        with _device_errors(), self._clock.measure(moving[0].size, rows):
            predictions = self._predict(moving)
        for request, prediction in zip(moving, predictions, strict=True):
            try:
                self._advance(request, prediction)
            except Exception as error:
                failures[request] = _as_render_error(error)
        return failures

    @torch.inference_mode()
    def decode(self, requests: Sequence[Request]) -> list[Pixels | RenderError]:
        """Pixels (height, width, 3) of each, or why it has none. Equal decoders and sizes."""
        with _device_errors():
            images = self._decoded([r.state.latents for r in requests], requests[0].params.decoder)
        finite = torch.stack([r.state.latents.isfinite().all() for r in requests]) & (
            images.isfinite().flatten(1).all(1)
        )
        pixels = (images.nan_to_num().float() * 255).round().to(torch.uint8)
        arrays = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return [
            array if ok else NonFinite() for array, ok in zip(arrays, finite.tolist(), strict=True)
        ]

    @torch.inference_mode()
    def preview(self, request: Request) -> Pixels:
        """A rough picture at latent resolution."""
        return self._preview_colours.draw(request.state.latents)

    # ---- start-up ----

    @torch.inference_mode()
    def warm_up(self, max_rows: int | None = None) -> CostTable:
        """Measure calls of 1, 2, 4, ... rows at the native size until more gains nothing."""
        calls = {rows: self.probe(rows) for rows in self._row_counts(max_rows)}
        measured: dict[int, float] = {}
        began = time.perf_counter()
        for rows, call in calls.items():
            measured[rows] = self._seconds(call)
            sooner = [seconds / n for n, seconds in measured.items() if n < rows]
            gained = rows < 4 or measured[rows] / rows < 0.98 * min(sooner)
            if not self.padded and (not gained or time.perf_counter() - began > WARM_UP_SECONDS):
                break
        # Counts take turns, so that what disturbs the device for a moment does not single one out.
        while time.perf_counter() - began < WARM_UP_SECONDS:
            for rows in measured:
                measured[rows] = min(measured[rows], self._seconds(calls[rows]))
        _ = self._preview_colours  # fitted now, not while somebody waits
        latents = self._probe_request().state.latents
        decode = self._seconds(lambda: self._decoded([latents], "full"))
        return CostTable(self.parts.spec.native_size, measured, decode=decode)

    def probe(self, rows: int) -> Callable[[], Any]:
        """A denoising call of `rows` rows at the native size, to be timed."""
        request = self._probe_request()
        return torch.inference_mode()(lambda: self._predict([request] * rows))

    def _probe_request(self) -> Request:
        spec = self.parts.spec
        request = Request(
            _warm_up_params(spec.name, *spec.native_size, spec.schedulers[0]), 0, 0, False
        )
        self.start(request)
        return request

    # ---- inside ----

    def _predict(self, requests: Sequence[Request]) -> list[Tensor]:
        """Noise predictions, one per request, guidance applied. Shapes (1, channels, h, w)."""
        samples: list[Tensor] = []
        steps: list[Tensor] = []
        texts: list[Tensor] = []
        conditions: list[Conditions] = []
        embeddings: list[Tensor] = []
        for request in requests:
            state: Trajectory = request.state
            step = state.timesteps[request.step]
            sample = state.scheduler.scale_model_input(state.latents, step)
            rows = [state.negative, state.positive] if request.rows == 2 else [state.positive]
            samples += [sample] * len(rows)
            steps += [step] * len(rows)
            texts += [text.hidden for text in rows if text is not None]
            conditions += state.conditions[-len(rows) :]
            if state.guidance_embedding is not None:
                embeddings += [state.guidance_embedding] * len(rows)
        noise = self._unet(samples, steps, texts, conditions, embeddings)
        predictions: list[Tensor] = []
        row = 0
        for request in requests:
            predictions.append(_guide(request, noise[row : row + request.rows]))
            row += request.rows
        return predictions

    def _unet(
        self,
        samples: list[Tensor],
        steps: list[Tensor],
        texts: list[Tensor],
        conditions: list[Conditions],
        embeddings: list[Tensor],
    ) -> Tensor:
        """One call over all rows; each row has its own timestep, text and conditions."""
        rows = len(samples)
        padding = next((n for n in ROW_BUCKETS if n >= rows), rows) - rows if self.padded else 0

        def pack(parts: list[Tensor]) -> Tensor:
            return torch.cat([*parts, *parts[-1:] * padding])

        timesteps = torch.stack([*steps, *steps[-1:] * padding]).to(torch.float32)
        timesteps = timesteps.to(self.device, non_blocking=True)
        added = {name: pack([c[name] for c in conditions]) for name in conditions[0]}
        noise = self.unet(
            pack(samples).to(texts[0].dtype),
            timesteps,
            encoder_hidden_states=pack(texts),
            timestep_cond=pack(embeddings) if embeddings else None,
            added_cond_kwargs=added or None,
            return_dict=False,
        )[0]
        return noise[:rows]

    def _advance(self, request: Request, prediction: Tensor) -> None:
        state: Trajectory = request.state
        step = state.timesteps[request.step]
        moved = state.scheduler.step(
            prediction, step, state.latents, **state.step_arguments, return_dict=False
        )[0]
        state.latents = moved.to(state.latents.dtype)

    def _decoded(self, latents: Sequence[Tensor], decoder: str) -> Tensor:
        """Images (n, 3, height, width) in [0, 1]."""
        vae = self.pipe.vae
        if decoder == "tiny":
            if self.parts.tiny_decoder is None:
                raise RenderError("this model has no tiny decoder")
            vae = self.parts.tiny_decoder
            batch = torch.cat(list(latents)) / vae.config.scaling_factor
        else:
            batch = self.family.unscale(torch.cat(list(latents)).to(vae.dtype), vae)
        images = vae.decode(batch.to(vae.dtype), return_dict=False)[0]
        return (images * 0.5 + 0.5).clamp(0, 1)

    def _guidance_embedding(self, params: GenerationParams, dtype: torch.dtype) -> Tensor | None:
        if not self.embeds_guidance:
            return None
        width = self.pipe.unet.config.time_cond_proj_dim
        scale = torch.tensor(params.guidance_scale - 1).repeat(1)
        embedding = self.pipe.get_guidance_scale_embedding(scale, embedding_dim=width)
        return embedding.to(device=self.device, dtype=dtype)

    @cached_property
    def _preview_colours(self) -> PreviewColours:
        return PreviewColours(
            lambda latents: self._decoded([latents], "full"),
            self.pipe.unet.config.in_channels,
            self.device,
            self.parts.dtype,
        )

    def _row_counts(self, max_rows: int | None) -> list[int]:
        limit = max_rows or self.parts.spec.max_rows
        counts = ROW_BUCKETS if self.padded else (1, 2, 4, 8, 16, 32)
        return [n for n in counts if n <= limit]

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


def new_scheduler(config: Any, name: str) -> Any:
    """A scheduler object of its own: the checkpoint's configuration under the name's changes."""
    spec = SCHEDULERS[name]
    return getattr(diffusers, spec.class_name).from_config(config, **spec.config)


def _device_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _step_arguments(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    accepted = inspect.signature(scheduler.step).parameters
    offered: dict[str, Any] = {"generator": generator, "eta": 0.0}
    return {name: value for name, value in offered.items() if name in accepted}


def _guide(request: Request, noise: Tensor) -> Tensor:
    """Classifier-free guidance (arXiv:2207.12598) with rescaling (arXiv:2305.08891, section 3.4)."""
    if request.rows == 1:
        return noise
    unconditional, conditional = noise.chunk(2)
    # A Python float multiplies in full precision; a half-precision tensor of scales would not.
    guided = unconditional + request.params.guidance_scale * (conditional - unconditional)
    phi = request.params.guidance_rescale
    if phi == 0:
        return guided
    axes = tuple(range(1, noise.ndim))
    ratio = conditional.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return phi * (guided * ratio) + (1 - phi) * guided


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
