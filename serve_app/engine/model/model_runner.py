"""ModelRunner: prompts to embeddings, one UNet call for many requests, latents to pixels.

Knows torch and the loaded parts of a model with a UNet; nothing of deadlines, jobs or threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor

from serve_app.engine.model.batching import BatchingDriver
from serve_app.engine.model.controlnet import Control
from serve_app.engine.model.device import as_render_error
from serve_app.engine.model.embeddings import Embeddings
from serve_app.engine.model.encoding import PictureEncoder
from serve_app.engine.model.families import FAMILIES, TextCache
from serve_app.engine.model.loading import ModelParts
from serve_app.engine.model.loras import Loras
from serve_app.engine.model.nonblocking import nonblocking
from serve_app.engine.model.tiling import Tiling
from serve_app.engine.model.trajectory import Schedulers, Trajectory
from serve_app.engine.model.unet import Rows, SharedUnet
from serve_app.engine.request import Request
from serve_app.errors import RenderError
from serve_app.params import GenerationParams


class ModelRunner(BatchingDriver):
    """The driver of families whose network is a UNet: SD and SDXL."""

    def __init__(self, parts: ModelParts) -> None:
        super().__init__(parts)
        self.texts = TextCache()
        self.family = FAMILIES[parts.spec.family](parts.pipe, parts.device, self.texts)
        self.schedulers = Schedulers(parts.pipe.scheduler.config)
        control = Control(parts.controls)
        self.unet = SharedUnet(parts.pipe.unet, parts.device, control, parts.reference)
        # Of a VAE its decoder alone: another thread may be encoding a picture.
        self._tilings = {id(parts.pipe.unet): Tiling(parts.pipe.unet)}
        self._tilings |= {id(network): Tiling(network) for network in parts.controls.values()}
        self._tilings |= {id(v): Tiling(v.decoder) for v in (parts.vae, parts.tiny_decoder) if v}
        self._encoder = PictureEncoder(parts.vae, self.family, parts.device)
        self.loras = Loras(parts.pipe, parts.loras, parts.device)
        self.family.embeddings = Embeddings(parts.pipe, parts.embeddings)
        self.embeds_guidance = parts.pipe.unet.config.time_cond_proj_dim is not None

    def forget(self) -> None:
        self.loras.forget()

    def guides(self, params: GenerationParams) -> bool:
        """Whether guidance adds a second row to each evaluation."""
        return params.guidance_scale > 1 and not self.embeds_guidance

    @torch.inference_mode()
    def start(self, request: Request) -> None:
        """Give the request its trajectory."""
        try:
            with self.placement.on("text"), nonblocking(self.device), ExitStack() as adapted:
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
                    self.parts.reference,
                )
        except Exception as error:
            raise as_render_error(error) from error
        request.state = state
        request.key = replace(request.key, windows=state.positive.windows)
        request.evaluations = len(state.timesteps)

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

    def images(self, requests: Sequence[Request]) -> Tensor:
        params = requests[0].params
        return self.images_of([r.state.latents for r in requests], params.decoder, params.tile)

    def decodes_in_parts(self, request: Request) -> bool:
        """One that is to repeat may not: the parts would wrap around, each by itself."""
        params = request.params
        whole = params.decoder == "tiny" or params.tile != "none"
        return not whole and hasattr(self.parts.vae, "tiled_decode")

    def images_in_parts(self, request: Request) -> Tensor:
        return self.images_of([request.state.latents], request.params.decoder, in_parts=True)

    def spatial(self, request: Request) -> Tensor:
        return request.state.latents

    def image_of(self, latents: Tensor) -> Tensor:
        return self.images_of([latents], "full")

    @property
    def latent_channels(self) -> int:
        return self.parts.vae.config.latent_channels

    def compile_for(self, requests: Sequence[Request]) -> None:
        self.unet.compile_for(rows_of(requests))

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


def rows_of(requests: Sequence[Request]) -> Rows:
    """The UNet's inputs for the next evaluation of each request."""
    rows = Rows()
    for request in requests:
        request.state.add_rows(rows, request.step, request.rows)
    return rows
