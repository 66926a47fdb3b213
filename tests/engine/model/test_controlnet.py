"""Orders that follow the shapes of a picture: bit-equal to the plain pipelines alone, almost in company."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from serve_app.engine.model.loading import ModelParts, load
from serve_app.engine.model.trajectory import new_scheduler
from serve_app.engine.request import Request
from serve_app.engine.sources import SourcePixels
from serve_app.errors import ModelError
from serve_app.params import GenerationParams
from tests.engine import tiny
from tests.engine.model.drawn_from import from_picture, picture, use
from tests.engine.model.harness import IN_COMPANY, Recording, difference, plain, requests_of, run
from tests.factories import params

SHOWN = {"edges": picture(11), "lines": picture(12)}  # by type of control


def with_controls(parts: ModelParts) -> ModelParts:
    networks = {name: tiny.controlnet(parts.pipe.unet, seed) for seed, name in enumerate(SHOWN, 3)}
    return replace(parts, controls=networks)


@functools.cache
def shared() -> ModelParts:
    return with_controls(tiny.parts(tiny.pipeline()))


def control(kind: str = "edges", **changes: Any) -> dict[str, Any]:
    return {"type": kind, "image": use(kind), **changes}


def given(runner: Recording, wanted: GenerationParams, drawing: int) -> list[Request]:
    made = requests_of(runner, wanted, drawing)
    shown = tuple(SHOWN[one.type] for one in wanted.control)
    for request in made:
        request.source = SourcePixels(picture() if wanted.init_image else None, controls=shown)
    return made


def alone(parts: ModelParts, wanted: GenerationParams) -> Tensor:
    runner = Recording(parts)
    (request,) = given(runner, wanted, 0)
    run(runner, [(0, request)])
    return runner.drawn[request]


def plainly(parts: ModelParts, wanted: GenerationParams, index: int = 0) -> Tensor:
    if not wanted.control:
        return plain(parts, wanted, index)
    xl = "XL" if parts.spec.family == "sdxl" else ""
    kind = "Img2Img" if wanted.init_image else ""
    more: dict[str, Any] = {} if xl else {"requires_safety_checker": False}
    networks = [parts.controls[one.type] for one in wanted.control]
    images = [Image.fromarray(SHOWN[one.type]) for one in wanted.control]
    several = len(networks) > 1
    pipe: Any = getattr(diffusers, f"StableDiffusion{xl}ControlNet{kind}Pipeline")(
        **parts.pipe.components, controlnet=networks if several else networks[0], **more
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = new_scheduler(parts.pipe.scheduler.config, wanted.scheduler)
    hints = images if several else images[0]
    how: dict[str, Any] = {"image": hints}
    if wanted.init_image:
        how = {"image": Image.fromarray(picture()), "control_image": hints}
        how |= {"strength": wanted.strength}
    weights, starts, ends = (
        [getattr(one, name) for one in wanted.control] for name in ("weight", "start", "end")
    )
    return pipe(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt or None,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.guidance_scale,
        controlnet_conditioning_scale=weights if several else weights[0],
        control_guidance_start=starts if several else starts[0],
        control_guidance_end=ends if several else ends[0],
        generator=torch.Generator("cpu").manual_seed(wanted.seed_of(index)),
        width=wanted.width,
        height=wanted.height,
        output_type="pt",
        **how,
    ).images[0]


WANTED: dict[str, dict[str, Any]] = {
    "one": {"control": [control()]},
    "unguided": {"control": [control(weight=0.7)], "guidance_scale": 1.0},
    "part of the steps": {"control": [control(weight=1.3, start=0.2, end=0.7)], "steps": 7},
    "two": {"control": [control(weight=0.6), control("lines", end=0.5)]},
    "second order": {"control": [control(end=0.6)], "scheduler": "heun"},
    "random steps": {"control": [control()], "scheduler": "euler_a"},
}


@pytest.mark.parametrize("order", WANTED)
def test_a_request_alone_is_bit_identical(order: str) -> None:
    wanted = params(**WANTED[order])
    drawn = alone(shared(), wanted)
    assert torch.equal(drawn, plainly(shared(), wanted))
    assert difference(drawn, plain(shared(), wanted)) > 1e-3  # it does something


def test_with_a_picture_to_start_from_too() -> None:
    wanted = from_picture(control=[control()], steps=6)
    assert torch.equal(alone(shared(), wanted), plainly(shared(), wanted))


def test_sdxl_is_drawn_like_its_pipeline() -> None:
    parts = with_controls(tiny.parts(tiny.xl_pipeline(), family="sdxl"))
    wanted = params(control=[control(weight=0.8)], negative_prompt="blurry")
    assert torch.equal(alone(parts, wanted), plainly(parts, wanted))


def test_half_precision_is_bit_identical_alone() -> None:
    parts = with_controls(tiny.parts(tiny.pipeline()))
    for network in (parts.pipe, *parts.controls.values()):
        network.to(torch.bfloat16)
    parts.dtype = torch.bfloat16
    wanted = params(control=[control(weight=0.7)])
    assert torch.equal(alone(parts, wanted), plainly(parts, wanted))


def test_company_changes_nothing_visible() -> None:
    """Requests with other controls, with several, and with none share calls."""
    runner = Recording(shared())
    wanted = [
        params(seed=1, n=2, control=[control(weight=0.9)]),
        params(seed=2, steps=7, control=[control("lines"), control(weight=0.5)]),
        params(seed=3, steps=6),
        params(seed=4, control=[control("lines", start=0.3)], guidance_scale=1.0),
    ]
    arrivals = [(i, request) for i, p in enumerate(wanted) for request in given(runner, p, i)]
    run(runner, arrivals)
    for _, request in arrivals:
        expected = plainly(shared(), request.params, request.index)
        assert difference(runner.drawn[request], expected) <= IN_COMPANY


def test_its_calls_say_nothing_of_what_others_cost() -> None:
    runner = Recording(shared())
    (request,) = given(runner, params(control=[control()], steps=2), 0)
    runner.start(request)
    runner.timings()
    runner.denoise([request])
    assert runner.timings() == []


def test_a_picture_that_repeats_may_follow_one() -> None:
    """The ControlNet wraps around as the UNet does: rolling noise and picture rolls the result."""
    runner = Recording(shared())
    wanted = params(control=[control()], tile="both", steps=3, scheduler="ddim")
    one, other = (given(runner, wanted, i)[0] for i in range(2))
    assert other.source is not None
    rolled = tuple(np.roll(shown, (8, 16), (0, 1)) for shown in other.source.controls)
    other.source = replace(other.source, controls=rolled)
    for request in (one, other):
        runner.start(request)
    with torch.inference_mode():
        other.state.latents = one.state.latents.roll((2, 4), (2, 3))
        for _ in range(3):
            runner.denoise([one, other])
            for request in (one, other):
                request.step += 1
        pictures = [runner.images_of([r.state.latents], "full", "both") for r in (one, other)]
    assert difference(pictures[0].roll((8, 16), (2, 3)), pictures[1]) < 1e-5


# ---- loading ----


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    pipe = tiny.pipeline()
    tiny.save(pipe, root / "tiny")
    tiny.controlnet(pipe.unet, 3).save_pretrained(root / "edges")
    tiny.controlnet(tiny.unet(cross_attention_dim=48), 3).save_pretrained(root / "other")
    return root


def loaded(root: Path, **controls: str) -> ModelParts:
    listed = {name: {"path": path, "prepare": "canny"} for name, path in controls.items()}
    return load(tiny.spec(dtype="float32", controls=listed), root, device="cpu")


def test_a_control_is_loaded_with_its_model(saved: Path) -> None:
    """And belongs to the hash of its weights."""
    parts = loaded(saved, edges="edges")
    fresh = with_controls(tiny.parts(tiny.pipeline()))
    wanted = params(control=[control()])
    assert torch.equal(alone(parts, wanted), alone(fresh, wanted))
    assert parts.revision != loaded(saved).revision


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere", "controls.edges is not a directory"),
        ("tiny", "controls.edges is not a directory with a config.json"),
        ("other", "controls.edges is for another family: its cross_attention_dim"),
    ],
)
def test_a_control_that_does_not_fit_is_refused(saved: Path, path: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        loaded(saved, edges=path)
