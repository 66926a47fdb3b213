"""Orders that start from a picture: by a model runner, and by the plain pipelines as the reference."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from serve_app.engine.model.loading import ModelParts
from serve_app.engine.model.trajectory import new_scheduler
from serve_app.engine.request import Request
from serve_app.engine.sources import SourcePixels
from serve_app.params import GenerationParams
from tests.engine.model.harness import Recording, plain, requests_of, run
from tests.factories import params

SIZE = (32, 32)  # width, height


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (size[1], size[0], 3), np.uint8)


def half(size: tuple[int, int] = SIZE) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Its right half is drawn anew."""
    mask = np.zeros((size[1], size[0]), bool)
    mask[:, size[0] // 2 :] = True
    return mask


def use(name: str) -> dict[str, Any]:
    return {"upload_id": name, "sha256": name, "given": {}}


def from_picture(*, mask: bool = False, **changes: Any) -> GenerationParams:
    more = {"mask_image": use("mask")} if mask else {}
    return params(**{"init_image": use("picture"), "strength": 0.6, **more, **changes})


def source_of(wanted: GenerationParams) -> SourcePixels | None:
    size = (wanted.width, wanted.height)
    if wanted.init_image is None:
        return None
    mask = None if wanted.mask_image is None else half(size)
    return SourcePixels(picture(size=size), mask)


def given(runner: Recording, wanted: GenerationParams, drawing: int) -> list[Request]:
    made = requests_of(runner, wanted, drawing)
    for request in made:
        request.source = source_of(wanted)
    return made


def alone(parts: ModelParts, wanted: GenerationParams) -> Tensor:
    runner = Recording(parts)
    (request,) = given(runner, wanted, 0)
    run(runner, [(0, request)])
    return runner.drawn[request]


def plainly(parts: ModelParts, wanted: GenerationParams, index: int = 0) -> Tensor:
    """The reference: one image by the plain pipeline of this feature."""
    source = source_of(wanted)
    if source is None or source.picture is None:
        return plain(parts, wanted, index)
    xl = "XL" if parts.spec.family == "sdxl" else ""
    inpaints = source.mask is not None or parts.pipe.unet.config.in_channels == 9
    kind = "Inpaint" if inpaints else "Img2Img"
    components = dict(parts.pipe.components)
    if not xl:
        components["requires_safety_checker"] = False
    pipe: Any = getattr(diffusers, f"StableDiffusion{xl}{kind}Pipeline")(**components)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = new_scheduler(parts.pipe.scheduler.config, wanted.scheduler)
    how: dict[str, Any] = {}
    if inpaints:
        mask = np.ones(source.picture.shape[:2], bool) if source.mask is None else source.mask
        how = {"mask_image": Image.fromarray(mask.astype(np.uint8) * 255)}
        how |= {"width": wanted.width, "height": wanted.height}
    return pipe(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt or None,
        image=Image.fromarray(source.picture),
        strength=wanted.strength,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(wanted.seed_of(index)),
        output_type="pt",
        **how,
    ).images[0]
