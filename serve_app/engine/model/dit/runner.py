"""TransformerRunner: the driver of diffusion transformers; their families say how one is called.

Knows families and rows; nothing of deadlines, jobs or threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from serve_app.engine.model.batching import BatchingDriver
from serve_app.engine.model.device import as_render_error
from serve_app.engine.model.dit.families import CLASSES
from serve_app.engine.model.dit.trajectory import TransformerTrajectory
from serve_app.engine.model.loading import ModelParts
from serve_app.engine.model.nonblocking import nonblocking
from serve_app.engine.model.trajectory import Schedulers
from serve_app.engine.request import Request
from serve_app.errors import RenderError
from serve_app.params import GenerationParams


class TransformerRunner(BatchingDriver):
    def __init__(self, parts: ModelParts) -> None:
        super().__init__(parts)
        spec = parts.spec
        self.family = CLASSES[spec.family](parts.pipe, parts.device, spec.token_limit)
        self.schedulers = Schedulers(parts.pipe.scheduler.config)

    def guides(self, params: GenerationParams) -> bool:
        return self.family.guides(params.guidance_scale)

    @torch.inference_mode()
    def start(self, request: Request) -> None:
        try:
            with self.placement.on("text"):
                state = TransformerTrajectory.begin(request, self.family, self.schedulers)
        except Exception as error:
            raise as_render_error(error) from error
        request.state = state
        request.evaluations = len(state.timesteps)

    def predict(self, requests: Sequence[Request]) -> list[list[Tensor]]:
        """One call for all rows; alone as the plain pipeline does it, some branch by branch."""
        rows = [r.state.rows(r.step, r.rows, r.params) for r in requests]
        flat = [row for own in rows for row in own]
        packed = self.family.joint or len(requests) > 1
        calls = [flat] if packed else [[row] for row in flat]
        predictions = iter([said for call in calls for said in self.family.call(call)])
        return [[next(predictions) for _ in own] for own in rows]

    def compile_for(self, requests: Sequence[Request]) -> None:
        raise RenderError("transformers are not compiled")  # models.yaml cannot ask for it

    def images(self, requests: Sequence[Request]) -> Tensor:
        return self._decoded(torch.cat([self.spatial(request) for request in requests]))

    def decodes_in_parts(self, request: Request) -> bool:
        return hasattr(self.parts.vae, "tiled_decode")

    def images_in_parts(self, request: Request) -> Tensor:
        return self._decoded(self.spatial(request), in_parts=True)

    def spatial(self, request: Request) -> Tensor:
        return self.family.spatial(request.state.latents, request.size)

    def image_of(self, latents: Tensor) -> Tensor:
        return self._decoded(latents)

    @property
    def latent_channels(self) -> int:
        return self.family.preview_channels

    @property
    def decoder_width(self) -> int:
        return self.family.decoder_width

    def _decoded(self, latents: Tensor, *, in_parts: bool = False) -> Tensor:
        vae = self.parts.vae
        with nonblocking(self.device):
            batch = self.family.vae_input(latents.to(vae.dtype))
        decode = vae.tiled_decode if in_parts else vae.decode
        images = self.family.picture(decode(batch, return_dict=False)[0])
        return (images * 0.5 + 0.5).clamp(0, 1)

    def notes(self, request: Request) -> list[str]:
        params, state, family = request.params, request.state, self.family
        notes: list[str] = []
        for branch, field in (("positive", "prompt"), ("negative", "negative_prompt")):
            prompt = state.prompts.get(branch)
            if prompt is not None and prompt.truncated:
                notes.append(f"{field}_truncated: {prompt.used} of {prompt.tokens} tokens used")
        if family.distilled and params.guidance_scale > 1:
            notes.append("guidance_ignored: this model was distilled to draw without guidance")
        if params.subject_negative and not family.reads_negative:
            notes.append("negative_prompt_ignored: models of this family read none")
        elif params.subject_negative and not request.guided:
            notes.append("negative_prompt_ignored: without guidance it is not read")
        if request.guided and params.guidance_stop < 1:
            guided = request.guided_evaluations
            notes.append(f"guidance_stop: guided for {guided} of {request.evaluations} evaluations")
        if state.decoded_in_parts:
            notes.append("decoded_in_parts: the device had no memory for the whole picture at once")
        return notes
