"""A model runner draws what the plain diffusers pipeline draws: bit-equal alone, and almost in company."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from serve_app.catalog.models import load_models
from serve_app.catalog.schedulers import DIFFUSION
from serve_app.config import PROJECT_ROOT
from serve_app.engine.model.loading import ModelParts, load
from serve_app.engine.request import Request
from tests.engine import tiny
from tests.engine.model.harness import (
    IN_COMPANY,
    Recording,
    alone,
    difference,
    plain,
    requests_of,
    run,
)
from tests.factories import params

MIXED: list[dict[str, Any]] = [
    {"steps": 6, "guidance_scale": 7.5, "seed": 1, "negative_prompt": "blurry"},
    {"steps": 4, "guidance_scale": 3.3, "seed": 2, "prompt": "a blue shield"},
    {"steps": 7, "guidance_scale": 1.0, "seed": 3},
    {"steps": 5, "guidance_scale": 5.0, "guidance_rescale": 0.7, "seed": 4},
]


@pytest.mark.parametrize("scheduler", DIFFUSION)
def test_a_request_alone_is_bit_identical(scheduler: str) -> None:
    """With every scheduler, with and without guidance."""
    parts = tiny.shared_parts()
    for changes in ({"guidance_scale": 1.0, "steps": 4}, {"guidance_rescale": 0.7}):
        wanted = params(scheduler=scheduler, **changes)
        assert torch.equal(alone(parts, wanted), plain(parts, wanted))


@pytest.mark.parametrize("scheduler", DIFFUSION)
def test_company_changes_nothing_visible(scheduler: str) -> None:
    """Mixed steps, guidance and rescale; requests that arrive one by one, and one that is dropped."""
    parts = tiny.shared_parts()
    runner = Recording(parts)
    arrivals: list[tuple[int, Request]] = []
    for i, changes in enumerate(MIXED):
        wanted = params(scheduler=scheduler, **changes)
        arrivals += [(i, request) for request in requests_of(runner, wanted, i)]
    (leaver,) = requests_of(runner, params(scheduler=scheduler, seed=9, steps=20), 9)
    run(runner, [*arrivals, (1, leaver)], drop=(5, leaver))
    assert leaver not in runner.drawn
    for _, request in arrivals:
        expected = plain(parts, request.params)
        assert difference(runner.drawn[request], expected) <= IN_COMPANY


@pytest.mark.parametrize(
    "scheduler", [name for name, spec in DIFFUSION.items() if spec.any_timesteps]
)
def test_timesteps_that_are_given_are_drawn_by(scheduler: str) -> None:
    """One step, as of models that were distilled to it, and a few; alone, and beside one with its own."""
    parts = tiny.shared_parts()
    single = params(scheduler=scheduler, steps=1, timesteps=[799], guidance_scale=1.0)
    few = params(scheduler=scheduler, steps=3, timesteps=[899, 499, 99], seed=4)
    for wanted in single, few:
        assert torch.equal(alone(parts, wanted), plain(parts, wanted))
    other = params(scheduler=scheduler, steps=3, seed=4)
    assert not torch.equal(plain(parts, few), plain(parts, other))
    runner = Recording(parts)
    arrivals = [(i, requests_of(runner, p, i)[0]) for i, p in enumerate((few, other, single))]
    run(runner, arrivals)
    for _, request in arrivals:
        assert difference(runner.drawn[request], plain(parts, request.params)) <= IN_COMPANY


def test_mixed_schedulers_and_sizes_share_a_run() -> None:
    """Requests with other schedulers share calls, other sizes take turns, and n images are n requests."""
    parts = tiny.shared_parts()
    runner = Recording(parts)
    jobs: list[dict[str, Any]] = [
        {"scheduler": "euler", "n": 2},
        {"scheduler": "dpmpp_2m_karras", "steps": 4, "width": 48},
        {"scheduler": "ddim", "guidance_scale": 1.0, "width": 48},
        {"scheduler": "lcm", "guidance_scale": 3.3},
    ]
    arrivals = [
        (i, request)
        for i, changes in enumerate(jobs)
        for request in requests_of(runner, params(**changes), i)
    ]
    run(runner, arrivals)
    for _, request in arrivals:
        expected = plain(parts, request.params, request.index)
        assert difference(runner.drawn[request], expected) <= IN_COMPANY


@pytest.mark.parametrize("negative", ["", "blurry"])
def test_sdxl_is_drawn_like_its_pipeline(negative: str) -> None:
    """With pooled embeddings and size conditions, and beside a request of another size."""
    parts = tiny.parts(tiny.xl_pipeline(), family="sdxl")
    guided = params(negative_prompt=negative)
    plainly = params(guidance_scale=1.0, steps=4, seed=3)
    wide = params(width=48, steps=3)
    assert torch.equal(alone(parts, guided), plain(parts, guided))
    runner = Recording(parts)
    arrivals = [(i, requests_of(runner, p, i)[0]) for i, p in enumerate((guided, plainly, wide))]
    run(runner, arrivals)
    for _, request in arrivals:
        expected = plain(parts, request.params)
        assert difference(runner.drawn[request], expected) <= IN_COMPANY


def test_an_embedded_guidance_scale_needs_no_second_row() -> None:
    """LCM-style UNets take the scale as an input, one per row, and no guidance rows."""
    parts = tiny.parts(tiny.pipeline(time_cond_proj_dim=16))
    wanted = [params(scheduler="lcm", steps=4, guidance_scale=g) for g in (8.0, 1.5)]
    assert torch.equal(alone(parts, wanted[0]), plain(parts, wanted[0]))
    runner = Recording(parts)
    arrivals = [(0, requests_of(runner, p, i)[0]) for i, p in enumerate(wanted)]
    assert [request.rows for _, request in arrivals] == [1, 1]
    run(runner, arrivals)
    for _, request in arrivals:
        assert difference(runner.drawn[request], plain(parts, request.params)) <= IN_COMPANY


def test_half_precision_is_bit_identical_alone() -> None:
    """bfloat16 weights: guidance and steps round as in the pipeline."""
    pipe = tiny.pipeline().to(torch.bfloat16)
    parts = tiny.parts(pipe, dtype="bfloat16")
    parts.dtype = torch.bfloat16
    wanted = params(guidance_scale=7.3)
    assert torch.equal(alone(parts, wanted), plain(parts, wanted))


def test_a_bert_text_encoder_and_a_tiny_vae_are_drawn_like_their_pipeline() -> None:
    """Built like the starter model: attention mask, 8 latent channels, AutoencoderTiny."""
    parts = tiny.parts(tiny.starter_like())
    wanted = params(negative_prompt="blurry")
    assert torch.equal(alone(parts, wanted), plain(parts, wanted))


STARTER = PROJECT_ROOT / "serve_app" / "starter" / "weights"


@pytest.fixture(scope="module")
def starter() -> ModelParts:
    if not (STARTER / "model_index.json").is_file():
        pytest.skip("the starter model is not here yet")
    return load(load_models(PROJECT_ROOT / "configs" / "models.yaml")["starter"], PROJECT_ROOT)


@pytest.mark.parametrize("scheduler", ["dpmpp_2m", "ddim", "euler", "euler_a"])
def test_the_starter_model_is_drawn_like_its_pipeline(starter: ModelParts, scheduler: str) -> None:
    """The weights that ship with the project: bit-equal alone, within the tolerance in company."""
    width, height = starter.spec.native_size
    common = {"scheduler": scheduler, "width": width, "height": height, "model": "starter"}
    wanted = [
        params(**common, seed=i, steps=4 + i, guidance_scale=g) for i, g in enumerate((4.0, 1.0))
    ]
    assert torch.equal(alone(starter, wanted[0]), plain(starter, wanted[0]))
    runner = Recording(starter)
    arrivals = [(0, requests_of(runner, p, i)[0]) for i, p in enumerate(wanted)]
    run(runner, arrivals)
    for _, request in arrivals:
        assert difference(runner.drawn[request], plain(starter, request.params)) <= IN_COMPANY


def test_strict_is_bit_identical_in_company() -> None:
    """A strict request has model calls of its own, so neighbours cannot change one bit."""
    parts = tiny.shared_parts()
    strict = params(reproducible="strict")
    runner = Recording(parts)
    arrivals = [
        (i, requests_of(runner, p, i)[0])
        for i, p in enumerate((params(seed=2), strict, params(seed=3), strict))
    ]
    run(runner, arrivals)
    for _, request in arrivals[1::2]:
        assert torch.equal(runner.drawn[request], plain(parts, strict))


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a blue shield"},
        {"negative_prompt": "blurry"},
        {"seed": 5},
        {"steps": 4},
        {"guidance_scale": 1.0},
        {"guidance_rescale": 0.5},
        {"guidance_stop": 0.5},
        {"scheduler": "ddim"},
        {"decoder": "tiny"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_carried_parameter_does_not_leak(changes: dict[str, Any]) -> None:
    """Two requests that differ in one parameter share calls, and each gets its own image."""
    parts = tiny.shared_parts()
    pair = [params(), params(**changes)]
    runner = Recording(parts)
    arrivals = [(0, requests_of(runner, p, i)[0]) for i, p in enumerate(pair)]
    run(runner, arrivals)
    drawn = [runner.drawn[request] for _, request in arrivals]
    for image, wanted in zip(drawn, pair, strict=True):
        assert difference(image, alone(parts, wanted)) <= IN_COMPANY
    assert difference(drawn[0], drawn[1]) > IN_COMPANY
