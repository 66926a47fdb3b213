"""PipelineRunner: any text-to-image pipeline of diffusers, step by step, each request by itself.

Knows pipelines and what they can be asked for; nothing of deadlines, jobs or batches.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from diffusers import AutoencoderKL

from serve_app.engine.model.device import device_errors
from serve_app.engine.model.driver import Driver, Failures, Pixels
from serve_app.engine.model.loading import ModelParts
from serve_app.engine.model.preview import PreviewColours
from serve_app.engine.model.stepped import Stepped
from serve_app.engine.request import Request, Stage
from serve_app.params import GenerationParams


class Held:
    """A plain call that ends when nobody holds it any more: its request is done, failed or dropped."""

    def __init__(self, call: Stepped) -> None:
        self.call = call
        weakref.finalize(self, call.drop).atexit = False


class PipelineRunner(Driver):
    """Guidance adds no rows: what a step costs is the pipeline's own business."""

    def __init__(self, parts: ModelParts) -> None:
        super().__init__(parts)
        self._accepted = inspect.signature(parts.pipe.__call__).parameters

    def guides(self, params: GenerationParams) -> bool:
        return False

    def fits(self, params: GenerationParams) -> bool:
        return not self.decoder_width or super().fits(params)

    def decodes_at_once(self, size: tuple[int, int]) -> int:
        return 1

    @property
    def decoder_width(self) -> int:
        """0: not known."""
        vae: Any = getattr(self.pipe, "vae", None)
        config: Any = vae.config if isinstance(vae, AutoencoderKL) else None
        return 0 if config is None else config.block_out_channels[0]

    def start(self, request: Request) -> None:
        """Its prompt is encoded in its first step."""
        params = request.params
        call: dict[str, Any] = {
            "prompt": params.prompt,
            "width": params.width,
            "height": params.height,
            "num_inference_steps": params.steps,
            "guidance_scale": params.guidance_scale,
            "generator": torch.Generator("cpu").manual_seed(request.seed),
            "output_type": "pt",
        }
        if params.negative_prompt and "negative_prompt" in self._accepted:
            call["negative_prompt"] = params.negative_prompt
        request.state = Held(Stepped(self.pipe, **call))

    def _call_of(self, request: Request) -> Any:
        """A `Stepped`. One that failed, for want of memory, cannot go on: it begins again, with the same seed
        and so to the same bits."""
        if request.state.call.failed:
            self.start(request)
            if request.stage is Stage.DENOISING:
                request.step = 0
        return request.state.call

    def denoise(self, requests: Sequence[Request]) -> Failures:
        (request,) = requests  # one row for each, and `max_rows` is 1
        call = self._call_of(request)
        with device_errors(), self._timer.measure(Stage.DENOISING, request.size, 1):
            call.step()
        # A second-order scheduler makes more steps than were ordered.
        request.evaluations = request.step + 1 if call.done else call.of
        return {}

    @torch.inference_mode()
    def decode(self, requests: Sequence[Request]) -> list[Callable[[], Pixels]]:
        (request,) = requests
        call = self._call_of(request)
        with device_errors(), self._timer.measure(Stage.DECODING, request.size, 1):
            while not call.done:
                call.step()
            images = call.result.images[:1]
            return self.arriving(images, torch.ones(1, dtype=torch.bool, device=images.device))

    def preview(self, request: Request) -> Callable[[], Pixels | None]:
        latents, colours = request.state.call.latents, self.preview_colours
        if colours is None or latents is None or latents.ndim != 4:
            return lambda: None
        draw = torch.inference_mode()(lambda: colours.draw(latents[:1]))
        return self._beside.later(latents, draw)

    @cached_property
    def preview_colours(self) -> PreviewColours | None:
        """Fitted to the decoder at first use; None where latents are not those of a plain VAE."""
        vae = getattr(self.pipe, "vae", None)
        if not isinstance(vae, AutoencoderKL):
            return None
        config: Any = vae.config

        @torch.inference_mode()
        def decode(latents: torch.Tensor) -> torch.Tensor:
            plain = latents / config.scaling_factor + (config.get("shift_factor") or 0)
            image = vae.decode(plain.to(vae.dtype), return_dict=False)[0]
            return (image * 0.5 + 0.5).clamp(0, 1)

        return PreviewColours(decode, config.latent_channels, self.device, self.parts.dtype)

    def notes(self, request: Request) -> list[str]:
        params = request.params
        if params.subject_negative and "negative_prompt" not in self._accepted:
            return ["negative_prompt_ignored: this pipeline reads none"]
        return []
