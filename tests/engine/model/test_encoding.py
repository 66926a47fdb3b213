"""Orders that start from a picture are drawn as the plain pipelines of image-to-image and inpainting draw:
bit-equal alone, and almost in company."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from serve_app.catalog.models import load_models
from serve_app.catalog.schedulers import DIFFUSION
from serve_app.config import PROJECT_ROOT
from serve_app.engine.model.loading import ModelParts, load
from tests.engine import tiny
from tests.engine.model.drawn_from import (
    SIZE,
    alone,
    from_picture,
    given,
    half,
    picture,
    plainly,
    use,
)
from tests.engine.model.harness import IN_COMPANY, Recording, difference, run
from tests.factories import params


@pytest.mark.parametrize("scheduler", DIFFUSION)
@pytest.mark.parametrize("mask", [False, True], ids=["img2img", "inpaint"])
def test_a_request_alone_is_bit_identical(scheduler: str, mask: bool) -> None:
    """With every scheduler, at several strengths, with and without guidance."""
    parts = tiny.shared_parts()
    for changes in ({"strength": 0.6}, {"strength": 1.0, "guidance_scale": 1.0}, {"strength": 0.3}):
        wanted = from_picture(mask=mask, scheduler=scheduler, steps=6, **changes)
        assert torch.equal(alone(parts, wanted), plainly(parts, wanted))


@pytest.mark.parametrize("scheduler", DIFFUSION)
def test_company_changes_nothing_visible(scheduler: str) -> None:
    """Pictures, masks and plain orders in the same calls; one is dropped, and others come later."""
    parts = tiny.shared_parts()
    runner = Recording(parts)
    wanted = [
        from_picture(scheduler=scheduler, seed=1, steps=7, n=2),
        from_picture(mask=True, scheduler=scheduler, seed=2, strength=0.8),
        params(scheduler=scheduler, seed=3, steps=6),
        from_picture(mask=True, scheduler=scheduler, seed=4, strength=1.0, guidance_scale=1.0),
    ]
    arrivals = [(i, request) for i, p in enumerate(wanted) for request in given(runner, p, i)]
    (leaver,) = given(runner, from_picture(scheduler=scheduler, seed=9, steps=20), 9)
    run(runner, [*arrivals, (1, leaver)], drop=(4, leaver))
    for _, request in arrivals:
        expected = plainly(parts, request.params, request.index)
        assert difference(runner.drawn[request], expected) <= IN_COMPANY


@pytest.mark.parametrize("mask", [False, True], ids=["img2img", "inpaint"])
@pytest.mark.parametrize("scheduler", ["euler_a", "dpmpp_2m"])
def test_sdxl_is_drawn_like_its_pipelines(mask: bool, scheduler: str) -> None:
    parts = tiny.parts(tiny.xl_pipeline(), family="sdxl")
    several: list[dict[str, Any]] = [
        {"strength": 0.5},
        {"strength": 1.0, "negative_prompt": "blurry"},
    ]
    for changes in several:
        wanted = from_picture(mask=mask, scheduler=scheduler, steps=6, **changes)
        assert torch.equal(alone(parts, wanted), plainly(parts, wanted))


def test_a_tiny_vae_is_drawn_like_its_pipeline() -> None:
    """Built like the starter model: 8 latent channels, and an encoder without a posterior."""
    parts = tiny.parts(tiny.starter_like())
    wanted = from_picture(scheduler="euler_a")
    assert torch.equal(alone(parts, wanted), plainly(parts, wanted))


def test_half_precision_is_bit_identical_alone() -> None:
    parts = tiny.parts(tiny.pipeline().to(torch.bfloat16), dtype="bfloat16")
    parts.dtype = torch.bfloat16
    for mask in (False, True):
        wanted = from_picture(mask=mask, scheduler="euler_a")
        assert torch.equal(alone(parts, wanted), plainly(parts, wanted))


@pytest.mark.parametrize("scheduler", ["euler_a", "ddim"])
def test_a_unet_that_reads_the_mask_is_drawn_like_its_pipeline(scheduler: str) -> None:
    """Nine channels: also without a mask, and from noise alone, where all of a grey picture is hidden."""
    parts = tiny.parts(tiny.pipeline(in_channels=9))
    for wanted in (
        from_picture(mask=True, scheduler=scheduler, strength=1.0),
        from_picture(mask=True, scheduler=scheduler, strength=0.5),
        from_picture(scheduler=scheduler, strength=0.5),
    ):
        assert torch.equal(alone(parts, wanted), plainly(parts, wanted))
    noise = params(scheduler=scheduler)
    same = from_picture(scheduler=scheduler, strength=1.0)
    assert torch.equal(alone(parts, noise), plainly(parts, same))


def test_only_the_steps_that_are_drawn_are_counted() -> None:
    """Work and evaluations, also of schedulers that evaluate twice a step."""
    whole = params(steps=20)
    assert from_picture(steps=20, strength=0.25).work == whole.work / 4
    runner = Recording(tiny.shared_parts())
    for scheduler, evaluations in (("euler", 5), ("heun", 9)):
        wanted = from_picture(steps=20, strength=0.25, scheduler=scheduler)
        (request,) = given(runner, wanted, 0)
        assert request.evaluations == evaluations
        runner.start(request)
        assert request.evaluations == evaluations


def test_what_the_mask_keeps_is_kept() -> None:
    """As far as the VAE can: exactly what encoding and decoding make of it, away from the seam."""
    parts = tiny.shared_parts()
    kept = alone(parts, from_picture(mask=True, strength=1.0, scheduler="ddim"))
    other = alone(
        parts, from_picture(mask=True, strength=1.0, scheduler="ddim", prompt="a blue shield")
    )
    left, right = (difference(kept[..., a], other[..., a]) for a in (slice(0, 8), slice(20, None)))
    assert right > IN_COMPANY
    assert left < right / 3


def test_an_empty_mask_is_noted() -> None:
    runner = Recording(tiny.shared_parts())
    for mask, noted in ((half(), False), (np.zeros_like(half()), True)):
        (request,) = given(runner, from_picture(mask=True), 0)
        assert request.source is not None
        request.source = replace(request.source, mask=mask)
        runner.start(request)
        assert any(note.startswith("mask_empty") for note in runner.notes(request)) == noted


def test_images_of_one_order_share_one_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """And another picture, size or tiling is encoded anew."""
    parts = tiny.parts(tiny.pipeline())
    runner = Recording(parts)
    calls: list[Any] = []
    real = parts.vae.encode
    monkeypatch.setattr(parts.vae, "encode", lambda x: calls.append(x) or real(x))
    for wanted in (from_picture(n=4), from_picture(seed=9), from_picture(tile="x")):
        for request in given(runner, wanted, 0):
            runner.start(request)
    assert len(calls) == 2
    for wanted in (from_picture(width=48), from_picture(init_image=use("other"))):
        runner.start(given(runner, wanted, 0)[0])
    assert len(calls) == 4


def test_a_picture_that_repeats_is_encoded_without_a_seam() -> None:
    """Rolling it rolls its latents, and only with `tile`."""
    parts = tiny.shared_parts()
    runner = Recording(parts)
    with torch.inference_mode():
        for tile, seam in (("both", False), ("none", True)):
            one, other = (
                runner._encoder._encode(  # its posterior's mean
                    runner._encoder._image(pixels, None, SIZE), tile
                ).latent_dist.mean
                for pixels in (picture(), np.roll(picture(), (8, 16), (0, 1)))
            )
            off = difference(one.roll((2, 4), (2, 3)), other)
            assert (off > 1e-2) if seam else (off < 1e-5)


STARTER = PROJECT_ROOT / "serve_app" / "starter" / "weights"


@pytest.fixture(scope="module")
def starter() -> ModelParts:
    return load(load_models(PROJECT_ROOT / "configs" / "models.yaml")["starter"], PROJECT_ROOT)


@pytest.mark.parametrize("scheduler", ["dpmpp_2m", "euler_a"])
def test_the_starter_model_is_drawn_like_its_pipeline(starter: ModelParts, scheduler: str) -> None:
    """The weights that ship with the project: bit-equal alone, within the tolerance in company."""
    width, height = starter.spec.native_size
    common: dict[str, Any] = {
        "scheduler": scheduler,
        "width": width,
        "height": height,
        "model": "starter",
    }
    wanted = [from_picture(**common, steps=6), params(**common, seed=2, steps=5)]
    assert torch.equal(alone(starter, wanted[0]), plainly(starter, wanted[0]))
    runner = Recording(starter)
    arrivals = [(0, given(runner, p, i)[0]) for i, p in enumerate(wanted)]
    run(runner, arrivals)
    for _, request in arrivals:
        expected = plainly(starter, request.params)
        assert difference(runner.drawn[request], expected) <= IN_COMPANY
