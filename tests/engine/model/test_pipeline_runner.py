"""Any pipeline of diffusers, drawn as it draws by itself: progress, previews, drops; no shared calls."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from serve_app.engine.build import build
from serve_app.engine.model.loading import ModelParts, load
from serve_app.engine.model.pipeline_runner import PipelineRunner
from serve_app.engine.request import Request
from serve_app.errors import ModelError, OutOfMemory
from serve_app.params import GenerationParams
from tests.engine import tiny
from tests.engine.harness import image_of, render, stream
from tests.engine.model.dit import tiny as dit
from tests.factories import params

PATIENCE_S = 30.0
# diffusers 0.42 imports its own FluxPosEmbed from where it is no more, in Chroma.
pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")


def edm() -> Any:
    """Of a schedule that no scheduler of the family sd fits."""
    pipe = tiny.pipeline()
    pipe.scheduler = diffusers.EDMDPMSolverMultistepScheduler()  # pyright: ignore[reportAttributeAccessIssue]
    return pipe


def chroma() -> Any:
    """Packed latents, which cannot be previewed."""
    transformer = diffusers.ChromaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=dit.WIDTH,
        axes_dims_rope=(4, 4, 8),
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=8,
    )
    return diffusers.ChromaPipeline(
        transformer=dit.random_everywhere(transformer),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=dit.shifted_vae(),
        text_encoder=dit.t5(),
        tokenizer=dit.tokenizer(),
    )


MADE = {"StableDiffusionPipeline": edm, "ChromaPipeline": chroma}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, make in MADE.items():
        torch.manual_seed(0)
        tiny.save(make(), root / name)
    return root


def spec(name: str, **changes: Any) -> Any:
    usual: dict[str, Any] = {"path": name, "pipeline": name, "schedulers": ["own"]}
    return tiny.spec(family="any", **{**usual, **changes})


def loaded(folder: Path, name: str) -> ModelParts:
    return load(spec(name), folder, device="cpu")


def plain(parts: ModelParts, wanted: GenerationParams, index: int = 0) -> np.ndarray[Any, Any]:
    image = parts.pipe(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt or None,
        width=wanted.width,
        height=wanted.height,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(wanted.seed_of(index)),
        output_type="np",
    ).images[0]
    return (image * 255).round().astype("uint8")


@pytest.mark.parametrize("name", MADE)
def test_a_picture_is_that_of_its_pipeline(folder: Path, name: str) -> None:
    """With the checkpoint's own schedule; previews where latents are plain."""
    parts = loaded(folder, name)
    runner = PipelineRunner(parts)
    wanted = params(scheduler="own", steps=3, negative_prompt="blurry")
    request = Request(wanted, 0, 0, runner.guides(wanted))
    runner.start(request)
    seen = list[tuple[int, ...] | None]()
    while not request.denoised:
        assert request.rows == 1
        assert not runner.denoise([request])
        request.step += 1
        preview = runner.preview(request)()
        seen.append(None if preview is None else preview.shape)
    (wait,) = runner.decode([request])
    assert (wait() == plain(parts, wanted)).all()
    assert seen == [None if name == "ChromaPipeline" else (8, 8, 3)] * 3
    assert [timing.size for timing in runner.timings()] == [(32, 32)] * 4
    assert runner.notes(request) == []


async def test_an_engine_draws_them_one_at_a_time(folder: Path) -> None:
    """Two images of one order and one of another, watched; a fourth is cancelled after a step."""
    name = "StableDiffusionPipeline"
    engine = build(spec(name), folder, device="cpu")
    parts = loaded(folder, name)
    engine.start()
    try:
        leaver = stream(engine, "leaver", steps=50, seed=9, scheduler="own")
        async for event in leaver:
            if event["kind"] == "progress" and event["step"] > 0:
                break
        await leaver.aclose()
        both = await render(engine, "both", n=2, steps=3, scheduler="own", preview=True)
        one = await render(engine, "one", steps=4, seed=7, scheduler="own")
        stats = engine.stats()
    finally:
        await engine.close()
    images = sorted((e["index"], e["data"]) for e in both if e["kind"] == "image")
    assert [index for index, _ in images] == [0, 1]
    for index, data in images:
        picture = image_of([{"kind": "image", "data": data}])
        assert (picture == plain(parts, params(n=2, steps=3), index)).all()
    assert (image_of(one) == plain(parts, params(steps=4, seed=7))).all()
    assert any(event["kind"] == "preview" for event in both)
    assert (stats["rows_per_call"], stats["dropped"], stats["live"]) == (1.0, 1, 0)


def test_a_call_that_failed_begins_again_to_the_same_bits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the device had no memory for it, and other models have left since."""
    parts = loaded(folder, "StableDiffusionPipeline")
    runner, ordered = PipelineRunner(parts), params(scheduler="own", steps=3, seed=5)
    request = Request(ordered, 0, 0, guided=False)
    runner.start(request)
    runner.denoise([request])
    request.step = 1
    unet = type(parts.pipe.unet)
    with monkeypatch.context() as patched:
        patched.setattr(unet, "forward", _without_memory)
        for _ in range(2):
            with pytest.raises(OutOfMemory):
                runner.denoise([request])
    for _ in range(3):
        runner.denoise([request])
        request.step += 1
    (wait,) = runner.decode([request])
    assert (wait() == plain(parts, ordered)).all()


def _without_memory(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("no memory")


def test_a_request_that_nobody_holds_ends_its_call(folder: Path) -> None:
    """As when it is cancelled: its thread goes, and its memory with it."""
    runner = PipelineRunner(loaded(folder, "StableDiffusionPipeline"))
    request = Request(params(scheduler="own"), 0, 0, guided=False)
    runner.start(request)
    runner.denoise([request])
    call = request.state.call
    del request
    gc.collect()
    assert call.join(PATIENCE_S)


def test_a_checkpoint_of_another_pipeline_is_refused(folder: Path) -> None:
    """`pipeline` says which class it must be."""
    wrong = spec("ChromaPipeline", path="StableDiffusionPipeline")
    with pytest.raises(
        ModelError, match="is a StableDiffusionPipeline, but family any needs a Chr"
    ):
        load(wrong, folder, device="cpu")
