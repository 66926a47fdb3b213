"""The driver of transformers: what it notes, previews and measures, and checkpoints that it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from serve_app.catalog.families import FamilyName
from serve_app.engine.build import build
from serve_app.engine.model import warm_up as module
from serve_app.engine.model.dit.runner import TransformerRunner
from serve_app.engine.model.loading import load
from serve_app.errors import ModelError
from tests.engine.harness import image_of, render
from tests.engine.model.dit import tiny
from tests.engine.model.dit.harness import order
from tests.engine.model.harness import requests_of
from tests.engine.tiny import save

EVERY: list[FamilyName] = ["sd3", "flux", "flux2", "qwen_image", "z_image", "sana"]


def notes_of(family: FamilyName, path: str | None = None, **changes: object) -> list[str]:
    runner = TransformerRunner(tiny.loaded(family, path))
    (request,) = requests_of(runner, order(**changes), 0)
    runner.start(request)
    return runner.notes(request)


def test_what_has_no_effect_is_noted() -> None:
    """Guidance of a distilled model, a negative prompt that nobody reads, words beyond the last token."""
    ignored = "guidance_ignored: this model was distilled to draw without guidance"
    assert notes_of("flux", "schnell") == notes_of("flux2", "klein") == [ignored]
    assert notes_of("flux") == notes_of("flux", "schnell", guidance_scale=1.0) == []
    unread = ["negative_prompt_ignored: models of this family read none"]
    assert notes_of("flux", negative_prompt="blurry", subject_negative="blurry") == unread
    unguided = ["negative_prompt_ignored: without guidance it is not read"]
    words = {"negative_prompt": "blurry", "subject_negative": "blurry"}
    assert notes_of("sd3", guidance_scale=1.0, **words) == unguided
    assert notes_of("sd3", **words) == []
    long = notes_of("flux", prompt="a red sword " * 6)
    assert long == ["prompt_truncated: 11 of 18 tokens used"]


def test_guidance_that_stops_is_noted() -> None:
    assert notes_of("sd3", guidance_stop=0.5, steps=3) == [
        "guidance_stop: guided for 2 of 3 evaluations"
    ]


@pytest.mark.parametrize("family", EVERY)
def test_previews_have_a_pixel_for_each_place(family: FamilyName) -> None:
    """Whether latents are packed or not; the picture is as wide as it was ordered."""
    runner = TransformerRunner(tiny.loaded(family))
    scheduler = runner.parts.spec.schedulers[0]
    (request,) = requests_of(runner, order(scheduler=scheduler, width=96), 0)
    runner.start(request)
    assert not runner.denoise([request])
    places = {"sana": 32, "flux2": 16}.get(family, 8)
    assert runner.preview(request)().shape == (64 // places, 96 // places, 3)
    (wait,) = runner.decode([request])
    assert wait().shape == (64, 96, 3)
    assert runner.images_in_parts(request).shape == (1, 3, 64, 96)
    assert runner.fits(request.params)


async def test_a_spec_becomes_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded, measured, and drawn by; alone it is the picture of the driver by hand."""
    monkeypatch.setattr(module, "WARM_UP_SECONDS", 0.05)
    tiny.saved("flux")
    engine = build(tiny.spec("flux", max_rows=2), tiny.folder(), device="cpu")
    engine.start()
    wanted = order()
    try:
        events = await render(engine, **wanted.model_dump())
    finally:
        await engine.close()
    runner = TransformerRunner(tiny.loaded("flux"))
    (request,) = requests_of(runner, wanted, 0)
    runner.start(request)
    while not request.denoised:
        assert not runner.denoise([request])
        request.step += 1
    (wait,) = runner.decode([request])
    assert (image_of(events) == wait()).all()
    assert Image.fromarray(wait()).size == (64, 64)


def without_an_encoder(model: Path) -> None:
    shutil.rmtree(model / "text_encoder_2")


def with_a_wider_text(model: Path) -> None:
    config = json.loads((model / "transformer/config.json").read_text())
    other: Any = tiny.diffusers.FluxTransformer2DModel.from_config(
        config | {"joint_attention_dim": 48}
    )
    other.save_pretrained(model / "transformer")


def with_another_schedule(model: Path) -> None:
    tiny.diffusers.DDIMScheduler().save_pretrained(model / "scheduler")
    index = model / "model_index.json"
    parts = json.loads(index.read_text()) | {"scheduler": ["diffusers", "DDIMScheduler"]}
    index.write_text(json.dumps(parts))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without_an_encoder, "the directory text_encoder_2/ is missing"),
        (with_a_wider_text, "the transformer expects text of width 48, the parts give 32"),
        (with_another_schedule, "draws by a DDIMScheduler, and flow_euler is another"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    damage: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    """With what is wrong, and no directory of this machine."""
    shutil.copytree(tiny.saved("flux"), tmp_path / "flux")
    damage(tmp_path / "flux")
    with pytest.raises(ModelError, match=says) as caught:
        load(tiny.spec("flux"), tmp_path, device="cpu")
    assert str(tmp_path) not in caught.value.detail


@pytest.mark.parametrize(("family", "schedulers"), [("sdxl", ["euler"]), ("sd3", ["flow_euler"])])
def test_a_checkpoint_of_another_family_is_refused(
    family: FamilyName, schedulers: list[str]
) -> None:
    """A transformer under the name of a UNet or of another transformer, with the class it needs."""
    tiny.saved("flux")
    spec = tiny.spec(family, "flux", schedulers=schedulers)
    with pytest.raises(ModelError, match=f"is a FluxPipeline, but family {family} needs a Stable"):
        load(spec, tiny.folder(), device="cpu")


def test_stable_diffusion_3_may_come_without_its_t5(tmp_path: Path) -> None:
    """Then it reads the tokens of CLIP."""
    torch.manual_seed(0)
    pipe = tiny.sd3()
    pipe.text_encoder_3 = pipe.tokenizer_3 = None
    save(pipe, tmp_path / "sd3")
    parts = load(tiny.spec("sd3", token_limit=64), tmp_path, device="cpu")
    runner = TransformerRunner(parts)
    (request,) = requests_of(runner, order(prompt="a red sword " * 6), 0)
    runner.start(request)
    assert not runner.denoise([request])
    assert runner.notes(request) == ["prompt_truncated: 14 of 18 tokens used"]
