"""Orders that take after a picture: alone bit-equal to the plain pipeline with `load_ip_adapter`, in
company almost."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from serve_app.engine.model.loading import ModelParts, load
from serve_app.engine.model.references import RowScales
from serve_app.engine.model.trajectory import new_scheduler
from serve_app.engine.request import Request
from serve_app.engine.sources import SourcePixels
from serve_app.errors import ModelError
from serve_app.params import GenerationParams
from tests.engine import tiny
from tests.engine.model.drawn_from import from_picture, picture, use
from tests.engine.model.harness import (
    IN_COMPANY,
    Recording,
    difference,
    plain,
    requests_of,
    run,
)
from tests.factories import params

SHOWN = {"cat": picture(21, (48, 40)), "dog": picture(22, (30, 60))}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, pipe in {"tiny": tiny.pipeline(), "xl": tiny.xl_pipeline()}.items():
        tiny.save(pipe, root / name)
        save_file(tiny.ip_adapter(pipe.unet), root / f"{name}.safetensors")
        save_file(tiny.ip_adapter(pipe.unet, tokens=3), root / f"{name}-plus.safetensors")
    tiny.image_encoder().save_pretrained(root / "encoder")
    tiny.image_encoder(projection_dim=24).save_pretrained(root / "wide")
    return root


def loaded(root: Path, name: str = "tiny", file: str | None = None, **changes: Any) -> ModelParts:
    adapter = {"path": file or f"{name}.safetensors", "image_encoder": "encoder"}
    how: dict[str, Any] = {"family": "sdxl" if name == "xl" else "sd", "dtype": "float32"}
    return load(
        tiny.spec(**{**how, "path": name, "reference": adapter, **changes}), root, device="cpu"
    )


@functools.cache
def shared(root: Path, name: str = "tiny", file: str | None = None) -> ModelParts:
    return loaded(root, name, file)


def after(name: str = "cat", weight: float = 0.6, **changes: Any) -> GenerationParams:
    return params(**{"reference": {"image": use(name), "weight": weight}, **changes})


def given(runner: Recording, wanted: GenerationParams, drawing: int) -> list[Request]:
    made = requests_of(runner, wanted, drawing)
    for request in made:
        look = wanted.reference and SHOWN[wanted.reference.image.sha256]
        request.source = SourcePixels(picture() if wanted.init_image else None, reference=look)
    return made


def alone(parts: ModelParts, wanted: GenerationParams) -> Tensor:
    runner = Recording(parts)
    (request,) = given(runner, wanted, 0)
    run(runner, [(0, request)])
    return runner.drawn[request]


def plainly(root: Path, parts: ModelParts, wanted: GenerationParams, index: int = 0) -> Tensor:
    """By the pipeline itself, whose UNet is a copy: `load_ip_adapter` changes it."""
    if wanted.reference is None:
        return plain(parts, wanted, index)
    spec = parts.spec.reference
    assert spec is not None
    pipe = copy.copy(parts.pipe)
    pipe.unet = copy.deepcopy(parts.pipe.unet)
    pipe.scheduler = new_scheduler(parts.pipe.scheduler.config, wanted.scheduler)
    pipe.load_ip_adapter(str(root), subfolder="", weight_name=spec.path, image_encoder_folder=None)
    pipe.set_ip_adapter_scale(wanted.reference.weight)
    return pipe(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt or None,
        ip_adapter_image=Image.fromarray(SHOWN[wanted.reference.image.sha256]),
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(wanted.seed_of(index)),
        width=wanted.width,
        height=wanted.height,
        output_type="pt",
    ).images[0]


WANTED: dict[str, dict[str, Any]] = {
    "guided": {},
    "unguided": {"guidance_scale": 1.0},
    "strongly": {"weight": 1.7},
    "second order": {"scheduler": "heun"},
    "random steps": {"scheduler": "euler_a"},
}


@pytest.mark.parametrize("order", WANTED)
def test_a_request_alone_is_bit_identical(saved: Path, order: str) -> None:
    parts, wanted = shared(saved), after(**WANTED[order])
    drawn = alone(parts, wanted)
    assert torch.equal(drawn, plainly(saved, parts, wanted))
    assert difference(drawn, plain(parts, wanted)) > 1e-3, "it does something"


@pytest.mark.parametrize("file", ["xl.safetensors", "xl-plus.safetensors"])
def test_sdxl_and_adapters_that_read_all_tokens(saved: Path, file: str) -> None:
    parts, wanted = shared(saved, "xl", file), after(negative_prompt="blurry")
    assert torch.equal(alone(parts, wanted), plainly(saved, parts, wanted))


def test_half_precision_is_bit_identical_alone(saved: Path) -> None:
    parts = loaded(saved, dtype="bfloat16")
    wanted = after(weight=0.7)
    assert torch.equal(alone(parts, wanted), plainly(saved, parts, wanted))


def test_without_a_reference_nothing_of_the_model_changes(saved: Path) -> None:
    """Also after it was drawn with one."""
    parts, other = shared(saved), tiny.parts(tiny.pipeline())
    wanted = params(seed=4)
    alone(parts, after())
    assert torch.equal(alone(parts, wanted), plain(other, wanted))


def test_company_changes_nothing_visible(saved: Path) -> None:
    """Requests after other pictures, with other weights, and after none share calls."""
    parts = shared(saved)
    runner = Recording(parts)
    wanted = [
        after(seed=1, n=2),
        after("dog", weight=1.2, seed=2, steps=7),
        params(seed=3, steps=6),
        after(seed=4, guidance_scale=1.0),
    ]
    arrivals = [(i, request) for i, p in enumerate(wanted) for request in given(runner, p, i)]
    run(runner, arrivals)
    worst = max(
        difference(runner.drawn[r], plainly(saved, parts, r.params, r.index)) for _, r in arrivals
    )
    print(f"in company: {worst:.1e}")
    assert worst <= IN_COMPANY


def test_with_a_picture_to_start_from_it_is_not_the_same(saved: Path) -> None:
    parts = shared(saved)
    started = from_picture(steps=6)
    both = from_picture(steps=6, reference={"image": use("cat"), "weight": 1.0})
    assert difference(alone(parts, started), alone(parts, both)) > 1e-3


def test_each_row_is_multiplied_by_a_number_of_its_own() -> None:
    rows = torch.arange(6, dtype=torch.bfloat16).reshape(3, 2) / 7
    scaled = RowScales([0.3, 0.0, 1.7]) * rows
    assert torch.equal(scaled, torch.stack([0.3 * rows[0], 0.0 * rows[1], 1.7 * rows[2]]))
    assert RowScales([0.0, 0.0]) == 0
    assert RowScales([0.0, 0.1]) != 0


# ---- loading ----


def test_it_belongs_to_the_hash_of_the_weights(saved: Path) -> None:
    plain_model = load(tiny.spec(dtype="float32"), saved, device="cpu")
    found = {shared(saved).revision, shared(saved, file="tiny-plus.safetensors").revision}
    assert len(found | {plain_model.revision}) == 3
    assert shared(saved).reference in shared(saved).networks


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file": "xl.safetensors"}, "no IP-Adapter for this family"),
        ({"file": "model.bin"}, r"reference.path is no .safetensors"),
        ({"file": "unet.safetensors"}, "no IP-Adapter for this family"),
        ({"file": "nan.safetensors"}, "no IP-Adapter for this family"),
        ({"file": "faces.safetensors"}, "no IP-Adapter for this family"),
        ({"file": "half.safetensors"}, "no IP-Adapter for this family"),
        ({"reference": {"path": "tiny.safetensors", "image_encoder": "wide"}}, "image encoder"),
        ({"reference": {"path": "tiny.safetensors", "image_encoder": "gone"}}, "config.json"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_loaded(
    saved: Path, changes: dict[str, Any], said: str
) -> None:
    right = load_file(saved / "tiny.safetensors")
    save_file({"conv_in.weight": torch.zeros(2)}, saved / "unet.safetensors")
    nan = {key: torch.full_like(value, torch.nan) for key, value in right.items()}
    save_file(nan, saved / "nan.safetensors")
    save_file(
        {**right, "ip_adapter.0.to_q_lora.up.weight": torch.zeros(2)}, saved / "faces.safetensors"
    )
    whole = (saved / "tiny.safetensors").read_bytes()
    (saved / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=said) as refused:
        loaded(saved, **changes)
    assert str(saved) not in refused.value.detail
