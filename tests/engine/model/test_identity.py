"""The engine draws what the plain diffusers pipeline draws, alone and in company."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pytest
import torch

from serve_app.catalog.models import load_models
from serve_app.catalog.schedulers import SCHEDULERS
from serve_app.config import PROJECT_ROOT
from serve_app.engine.model.loading import ModelParts, load
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.model.trajectory import new_scheduler
from serve_app.engine.model.unet import SharedUnet
from serve_app.engine.request import CARRIED, RECORDED, DecodeKey, Request
from serve_app.engine.scheduler import Scheduler
from serve_app.params import GenerationParams
from tests.engine import tiny

IN_COMPANY = 1e-4  # on the [0, 1] image


class Recording(ModelRunner):
    """A runner that keeps the float images it decoded, by request."""

    def __init__(self, parts: ModelParts) -> None:
        super().__init__(parts)
        self.drawn: dict[Request, torch.Tensor] = {}

    def decode(self, requests: Sequence[Request]) -> list[Any]:
        with torch.inference_mode():
            drawn = self._decoded([r.state.latents for r in requests], requests[0].params.decoder)
        self.drawn |= dict(zip(requests, drawn, strict=True))
        return super().decode(requests)


def plain(parts: ModelParts, params: GenerationParams, index: int = 0) -> torch.Tensor:
    """The reference: one image by the pipeline itself."""
    pipe, config = parts.pipe, parts.pipe.scheduler.config
    before = pipe.scheduler
    pipe.scheduler = new_scheduler(config, params.scheduler)
    try:
        image = pipe(
            params.prompt,
            negative_prompt=params.negative_prompt or None,
            num_inference_steps=params.steps,
            guidance_scale=params.guidance_scale,
            guidance_rescale=params.guidance_rescale,
            generator=torch.Generator("cpu").manual_seed(params.seed_of(index)),
            width=params.width,
            height=params.height,
            output_type="pt",
        ).images[0]
    finally:
        pipe.scheduler = before
    return image


def requests_of(runner: ModelRunner, params: GenerationParams, order: int) -> list[Request]:
    return [Request(params, i, order, runner.guides(params)) for i in range(params.n)]


def run(
    runner: ModelRunner,
    arrivals: Sequence[tuple[int, Request]],
    drop: tuple[int, Request] | None = None,
) -> None:
    """Drive the loop by hand: (call number, request) joins then; `drop` leaves then."""
    scheduler = Scheduler(tiny.SharingCosts(), max_rows=64)
    left = sorted(arrivals, key=lambda a: a[0])
    call = 0
    while True:
        while left and left[0][0] <= call:
            scheduler.add(left.pop(0)[1])
        if drop is not None and drop[0] == call:
            scheduler.drop(drop[1])
        for request in scheduler.start():
            runner.start(request)
            scheduler.started(request)
        batch = scheduler.schedule()
        call += 1
        if batch is None:
            if not left:
                return
            continue
        if batch.stage.value == "decoding":
            for wait in runner.decode(batch.requests):
                wait()
            scheduler.update(batch)
            for request in batch.requests:
                scheduler.finish(request)
        else:
            assert not runner.denoise(batch.requests)
            scheduler.update(batch)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


MIXED: list[dict[str, Any]] = [
    {"steps": 6, "guidance_scale": 7.5, "seed": 1, "negative_prompt": "blurry"},
    {"steps": 4, "guidance_scale": 3.3, "seed": 2, "prompt": "a blue shield"},
    {"steps": 7, "guidance_scale": 1.0, "seed": 3},
    {"steps": 5, "guidance_scale": 5.0, "guidance_rescale": 0.7, "seed": 4},
]


def alone(parts: ModelParts, params: GenerationParams) -> torch.Tensor:
    runner = Recording(parts)
    (request,) = requests_of(runner, params, 0)
    run(runner, [(0, request)])
    return runner.drawn[request]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_request_alone_is_bit_identical(scheduler: str) -> None:
    """Alone in the engine, every scheduler gives the pipeline's very bits."""
    parts = tiny.shared_parts()
    for changes in ({"guidance_scale": 1.0, "steps": 4}, {"guidance_rescale": 0.7}):
        params = tiny.params(scheduler=scheduler, **changes)
        assert torch.equal(alone(parts, params), plain(parts, params))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_company_changes_nothing_visible(scheduler: str) -> None:
    """Mixed steps, guidance and rescale, staggered joins and a neighbour that is dropped."""
    parts = tiny.shared_parts()
    runner = Recording(parts)
    arrivals: list[tuple[int, Request]] = []
    for i, changes in enumerate(MIXED):
        params = tiny.params(scheduler=scheduler, **changes)
        arrivals += [(i, request) for request in requests_of(runner, params, i)]
    (leaver,) = requests_of(runner, tiny.params(scheduler=scheduler, seed=9, steps=20), 9)
    run(runner, [*arrivals, (1, leaver)], drop=(5, leaver))
    assert leaver not in runner.drawn
    for _, request in arrivals:
        expected = plain(parts, request.params)
        assert difference(runner.drawn[request], expected) <= IN_COMPANY


def test_mixed_schedulers_and_sizes_share_a_run() -> None:
    """Different schedulers share calls, different sizes take turns, and n images are n requests."""
    parts = tiny.shared_parts()
    runner = Recording(parts)
    orders: list[dict[str, Any]] = [
        {"scheduler": "euler", "n": 2},
        {"scheduler": "dpmpp_2m_karras", "steps": 4, "width": 48},
        {"scheduler": "ddim", "guidance_scale": 1.0, "width": 48},
        {"scheduler": "lcm", "guidance_scale": 3.3},
    ]
    arrivals = [
        (i, request)
        for i, changes in enumerate(orders)
        for request in requests_of(runner, tiny.params(**changes), i)
    ]
    run(runner, arrivals)
    for _, request in arrivals:
        expected = plain(parts, request.params, request.index)
        assert difference(runner.drawn[request], expected) <= IN_COMPANY


@pytest.mark.parametrize("negative", ["", "blurry"])
def test_sdxl_is_drawn_like_its_pipeline(negative: str) -> None:
    """Pooled embeddings and size conditions: bits alone, tolerance in company of another size."""
    parts = tiny.parts(tiny.xl_pipeline(), family="sdxl")
    guided = tiny.params(negative_prompt=negative)
    plainly = tiny.params(guidance_scale=1.0, steps=4, seed=3)
    wide = tiny.params(width=48, steps=3)
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
    params = [tiny.params(scheduler="lcm", steps=4, guidance_scale=g) for g in (8.0, 1.5)]
    assert torch.equal(alone(parts, params[0]), plain(parts, params[0]))
    runner = Recording(parts)
    arrivals = [(0, requests_of(runner, p, i)[0]) for i, p in enumerate(params)]
    assert [request.rows for _, request in arrivals] == [1, 1]
    run(runner, arrivals)
    for _, request in arrivals:
        assert difference(runner.drawn[request], plain(parts, request.params)) <= IN_COMPANY


def test_half_precision_is_bit_identical_alone() -> None:
    """bfloat16 weights: guidance and steps round as in the pipeline."""
    pipe = tiny.pipeline().to(torch.bfloat16)
    parts = tiny.parts(pipe, dtype="bfloat16")
    parts.dtype = torch.bfloat16
    params = tiny.params(guidance_scale=7.3)
    assert torch.equal(alone(parts, params), plain(parts, params))


def test_a_bert_text_encoder_and_a_tiny_vae_are_drawn_like_their_pipeline() -> None:
    """The starter model's make: attention mask, 8 latent channels, AutoencoderTiny."""
    parts = tiny.parts(tiny.starter_like())
    params = tiny.params(negative_prompt="blurry")
    assert torch.equal(alone(parts, params), plain(parts, params))


STARTER = PROJECT_ROOT / "serve_app" / "starter" / "weights"


@pytest.fixture(scope="module")
def starter() -> ModelParts:
    if not (STARTER / "model_index.json").is_file():
        pytest.skip("the starter model is not here yet")
    return load(load_models(PROJECT_ROOT / "configs" / "models.yaml")["starter"], PROJECT_ROOT)


@pytest.mark.parametrize("scheduler", ["dpmpp_2m", "ddim", "euler", "euler_a"])
def test_the_starter_model_is_drawn_like_its_pipeline(starter: ModelParts, scheduler: str) -> None:
    """The weights that ship: bits alone, tolerance in company."""
    width, height = starter.spec.native_size
    order = {"scheduler": scheduler, "width": width, "height": height, "model": "starter"}
    params = [
        tiny.params(**order, seed=i, steps=4 + i, guidance_scale=g)
        for i, g in enumerate((4.0, 1.0))
    ]
    assert torch.equal(alone(starter, params[0]), plain(starter, params[0]))
    runner = Recording(starter)
    arrivals = [(0, requests_of(runner, p, i)[0]) for i, p in enumerate(params)]
    run(runner, arrivals)
    for _, request in arrivals:
        assert difference(runner.drawn[request], plain(starter, request.params)) <= IN_COMPANY


def test_strict_is_bit_identical_in_company() -> None:
    """A strict request has model calls of its own, so neighbours cannot change one bit."""
    parts = tiny.shared_parts()
    strict = tiny.params(reproducible="strict")
    runner = Recording(parts)
    arrivals = [
        (i, requests_of(runner, p, i)[0])
        for i, p in enumerate((tiny.params(seed=2), strict, tiny.params(seed=3), strict))
    ]
    run(runner, arrivals)
    for _, request in arrivals[1::2]:
        assert torch.equal(runner.drawn[request], plain(parts, strict))


def test_every_parameter_is_in_the_key_or_carried() -> None:
    """A new field of GenerationParams must be placed before it can be forgotten."""
    keyed = {field.name for field in fields(DecodeKey)}
    assert set(GenerationParams.model_fields) == keyed | CARRIED | RECORDED
    assert not keyed & CARRIED
    assert not (keyed | CARRIED) & RECORDED


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
    pair = [tiny.params(), tiny.params(**changes)]
    runner = Recording(parts)
    arrivals = [(0, requests_of(runner, p, i)[0]) for i, p in enumerate(pair)]
    run(runner, arrivals)
    drawn = [runner.drawn[request] for _, request in arrivals]
    for image, params in zip(drawn, pair, strict=True):
        assert difference(image, alone(parts, params)) <= IN_COMPANY
    assert difference(drawn[0], drawn[1]) > IN_COMPANY


def test_quality_tiers_are_named() -> None:
    """A guidance interval drops the second row after its share, and the notes say so."""
    runner = ModelRunner(tiny.shared_parts())
    params = tiny.params(guidance_stop=0.5, decoder="tiny", steps=5)
    (request,) = requests_of(runner, params, 0)
    runner.start(request)
    rows: list[int] = []
    while not request.denoised:
        rows.append(request.rows)
        assert not runner.denoise([request])
        request.step += 1
    assert rows == [2, 2, 2, 1, 1]
    notes = runner.notes(request)
    assert [note.split(":")[0] for note in notes] == ["guidance_stop", "tiny_decoder"]


def test_a_long_prompt_is_noted() -> None:
    """Fourteen words fit between the marks; the note counts them."""
    runner = ModelRunner(tiny.shared_parts())
    (request,) = requests_of(runner, tiny.params(prompt="a red sword " * 6), 0)
    runner.start(request)
    assert runner.notes(request) == ["prompt_truncated: 14 of 18 tokens used"]


def test_the_unet_compiles_as_one_graph_while_eager_code_serves() -> None:
    """No graph breaks; until the compiled code is there the eager network serves; rows padded to a
    bucket change nothing."""
    torch.compiler.reset()
    parts = tiny.parts(tiny.pipeline())
    params = [tiny.params(seed=i, steps=2, guidance_scale=1.0 + i % 2) for i in range(4)]
    expected = [alone(parts, p) for p in params]
    runner = Recording(parts)
    begun, go = threading.Event(), threading.Event()

    def make_all(unet: SharedUnet) -> None:
        begun.set()
        assert go.wait(60)
        runner._make_all(unet, 4)
        unet.shapes -= {shape for shape in unet.shapes if shape[2] == 3}  # three rows take four

    thread = runner.unet.compile_beside(make_all, backend="eager")
    assert begun.wait(60)
    assert not runner.unet.padded
    go.set()
    thread.join()
    assert runner.unet.padded
    arrivals = [(0, requests_of(runner, p, i)[0]) for i, p in enumerate(params[:3])]
    run(runner, arrivals)
    for (_, request), image in zip(arrivals, expected, strict=False):
        assert difference(runner.drawn[request], image) <= IN_COMPANY


def test_a_size_without_compiled_code_is_drawn_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """By any thread, and without compiling in the loop."""
    torch.compiler.reset()
    parts = tiny.parts(tiny.pipeline())
    params = tiny.params(seed=3, steps=2, width=64, height=64)
    expected = alone(parts, params)
    runner = Recording(parts)
    made = runner.unet.compiled(backend="eager")
    with torch.inference_mode():
        runner._make_all(made, 2)
    runner.unet.become(made)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("compiled code was called for a size it was not made for")

    monkeypatch.setattr(runner.unet, "fast", refuse)
    (request,) = requests_of(runner, params, 0)
    run(runner, [(0, request)])
    assert difference(runner.drawn[request], expected) == 0


def test_a_unet_that_cannot_be_compiled_stays_eager() -> None:
    """The service goes on as before."""
    runner = ModelRunner(tiny.shared_parts())

    def make_all(unet: SharedUnet) -> None:
        raise RuntimeError("no compiler here")

    runner.unet.compile_beside(make_all, backend="eager").join()
    assert not runner.unet.padded
    assert runner.unet.network is runner.pipe.unet
