"""LoRAs: drawn bit by bit as peft draws them in the plain pipeline, and no bit of the others changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from serve_app.catalog.loras import LoraSpec, load_loras
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.errors import ConfigError, RenderError
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

Tensors = dict[str, Tensor]
RANK = 4


def layers_of(network: nn.Module, only: str) -> dict[str, Any]:
    return {
        path: module
        for path, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and only in path
    }


def pair(module: Any, seed: int, size: float = 0.3) -> tuple[Tensor, Tensor]:
    """(down, up) of a layer, random."""
    generator = torch.Generator().manual_seed(seed)
    out, into, *kernel = module.weight.shape
    down = torch.randn(RANK, into, *kernel, generator=generator) * size
    up = torch.randn(out, RANK, *[1] * len(kernel), generator=generator) * size
    return down, up


def kohya(pipe: Any, seed: int, *, text: bool = False) -> Tensors:
    """As kohya's trainers write it, with alpha: attention, and convolutions before it."""
    found: Tensors = {}
    parts: list[tuple[str, Any, tuple[str, ...]]] = [("lora_unet_", pipe.unet, ("attn", "proj_in"))]
    if text:
        xl = hasattr(pipe, "text_encoder_2")
        begin = "lora_te1_text_model_" if xl else "lora_te_text_model_"
        parts.append((begin, pipe.text_encoder, ("self_attn", "fc1")))
        if xl:
            parts.append(("lora_te2_text_model_", pipe.text_encoder_2, ("self_attn",)))
    for begin, network, words in parts:
        for word in words:
            for path, module in layers_of(network, word).items():
                path = path.removeprefix("text_model.")
                name = begin + path.replace(".", "_")
                seed += 1
                found[f"{name}.lora_down.weight"], found[f"{name}.lora_up.weight"] = pair(
                    module, seed
                )
                found[f"{name}.alpha"] = torch.tensor(2.0)
    return found


def peft_format(pipe: Any, seed: int) -> Tensors:
    """As diffusers and peft write it: no alpha."""
    found: Tensors = {}
    for number, (path, module) in enumerate(layers_of(pipe.unet, "attn").items()):
        down, up = pair(module, seed + number)
        found |= {f"unet.{path}.lora_A.weight": down, f"unet.{path}.lora_B.weight": up}
    return found


def with_loras(parts: Any, folder: Path) -> Any:
    parts.loras = load_loras(folder)
    return parts


def uses(parts: Any, **weights: float) -> list[dict[str, Any]]:
    return [
        {"name": name, "weight": weight, "revision": parts.loras[name].revision}
        for name, weight in weights.items()
    ]


def by_peft(parts: Any, wanted: Any, folder: Path, **weights: float) -> Tensor:
    pipe = parts.pipe
    for name in weights:
        pipe.load_lora_weights(folder / f"{name}.safetensors", adapter_name=name)
    pipe.set_adapters(list(weights), list(weights.values()))
    try:
        return plain(parts, wanted)
    finally:
        pipe.unload_lora_weights()


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")  # two at once
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_alone_it_is_what_peft_draws(family: str, tmp_path: Path) -> None:
    """One of kohya's with alpha, one of peft's, and both together in their order, to the bit."""
    pipe: Any = tiny.xl_pipeline() if family == "sdxl" else tiny.pipeline()
    save_file(kohya(pipe, 1), tmp_path / "ink.safetensors")
    save_file(peft_format(pipe, 900), tmp_path / "oil.safetensors")
    parts = with_loras(tiny.parts(pipe, family=family), tmp_path)
    before = alone(parts, params())
    chosen: list[dict[str, float]] = [{"ink": 0.8}, {"oil": 0.5}, {"oil": 1.5, "ink": -0.4}]
    ours = [alone(parts, params(loras=uses(parts, **weights))) for weights in chosen]
    assert torch.equal(alone(parts, params()), before)
    for weights, drawn in zip(chosen, ours, strict=True):
        assert difference(drawn, before) > 1e-3
        assert torch.equal(drawn, by_peft(parts, params(), tmp_path, **weights))


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_text_encoders_are_changed_too(family: str, tmp_path: Path) -> None:
    """As if the products were added to their weights; and the plain text is as it was."""
    pipe: Any = tiny.xl_pipeline() if family == "sdxl" else tiny.pipeline()
    tensors = {k: v for k, v in kohya(pipe, 1, text=True).items() if k.startswith("lora_te")}
    save_file(tensors, tmp_path / "words.safetensors")
    parts = with_loras(tiny.parts(pipe, family=family), tmp_path)
    before, wanted = alone(parts, params()), params(loras=uses(parts, words=0.7))
    drawn = alone(parts, wanted)
    assert difference(drawn, before) > 1e-4
    for begin, network in (
        ("lora_te_", pipe.text_encoder),
        ("lora_te1_", pipe.text_encoder),
        ("lora_te2_", getattr(pipe, "text_encoder_2", None)),
    ):
        for path, module in layers_of(network, "").items() if network is not None else ():
            name = f"{begin}text_model_{path.removeprefix('text_model.').replace('.', '_')}"
            if f"{name}.alpha" in tensors:
                down, up = (tensors[f"{name}.lora_{end}.weight"] for end in ("down", "up"))
                module.weight.data += 0.7 * 2.0 / RANK * up @ down
    assert difference(drawn, plain(parts, params())) < 1e-4


def test_in_company_nobody_draws_with_the_loras_of_another(tmp_path: Path) -> None:
    """Orders with other LoRAs, other weights, or none, never share a call."""
    pipe = tiny.pipeline()
    save_file(kohya(pipe, 1, text=True), tmp_path / "ink.safetensors")
    save_file(peft_format(pipe, 900), tmp_path / "oil.safetensors")
    parts = with_loras(tiny.parts(pipe), tmp_path)
    orders = [
        params(seed=1),
        params(seed=2, loras=uses(parts, ink=0.8)),
        params(seed=3, loras=uses(parts, ink=0.8), steps=4),
        params(seed=4, loras=uses(parts, ink=0.3)),
        params(seed=5, loras=uses(parts, oil=1.0, ink=0.8), tile="both"),
    ]
    runner = Recording(parts)
    requests = [requests_of(runner, order, i)[0] for i, order in enumerate(orders)]
    run(runner, [(i // 2, request) for i, request in enumerate(requests)])
    for request in requests:
        assert difference(runner.drawn[request], alone(parts, request.params)) <= IN_COMPANY
    assert not any("forward" in vars(module) for module in pipe.unet.modules())


# ---- files that do not fit ----


def wider(tensors: Tensors) -> None:
    name = next(k for k in tensors if k.endswith("to_q.lora_down.weight"))
    tensors[name] = torch.zeros(RANK, 99)


def uneven(tensors: Tensors) -> None:
    name = next(k for k in tensors if k.endswith("to_q.lora_up.weight"))
    tensors[name] = tensors[name][:, :2].contiguous()


def not_a_number(tensors: Tensors) -> None:
    next(iter(tensors.values())).fill_(float("nan"))


def half_a_pair(tensors: Tensors) -> None:
    tensors.pop(next(k for k in tensors if k.endswith("lora_up.weight")))


def other_layers(tensors: Tensors) -> None:
    tensors["lora_unet_down_blocks_9_attn.lora_down.weight"] = torch.zeros(RANK, 8)


def dora(tensors: Tensors) -> None:
    tensors["lora_unet_mid_block_attentions_0_proj_in.dora_scale"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (wider, "does not fit this model"),
        (uneven, "does not fit this model"),
        (not_a_number, "does not fit this model: other widths, or NaN"),
        (half_a_pair, "trained for another model: no layer"),
        (other_layers, "trained for another model: no layer down_blocks_9_attn"),
        (dora, "is DoRA, which is not drawn here"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_lora_that_does_not_fit_fails_its_own_order(
    damage: Callable[[Tensors], None], reason: str, tmp_path: Path
) -> None:
    """With the reason; the next order without it is drawn as ever."""
    tensors = kohya(tiny.shared_parts().pipe, 1)
    damage(tensors)
    save_file(tensors, tmp_path / "ink.safetensors")
    parts = with_loras(tiny.parts(tiny.pipeline()), tmp_path)
    runner = ModelRunner(parts)
    (request,) = requests_of(runner, params(loras=uses(parts, ink=1.0)), 0)
    with pytest.raises(RenderError, match=reason):
        runner.start(request)
    assert torch.equal(alone(parts, params()), plain(parts, params()))


def test_a_lora_that_has_changed_since_its_order_is_not_drawn(tmp_path: Path) -> None:
    """The picture would not be the one that was ordered."""
    path = tmp_path / "ink.safetensors"
    save_file(kohya(tiny.shared_parts().pipe, 1), path)
    parts = with_loras(tiny.parts(tiny.pipeline()), tmp_path)
    wanted = params(loras=uses(parts, ink=1.0))
    save_file(kohya(parts.pipe, 77), path)
    for gone in (False, True):
        if gone:
            path.unlink()
        runner = ModelRunner(parts)
        (request,) = requests_of(runner, wanted, 0)
        with pytest.raises(RenderError, match="is gone or has changed"):
            runner.start(request)


# ---- what a folder of them says ----


def test_a_folder_of_loras_says_what_each_is(tmp_path: Path) -> None:
    """Family and trigger words, as trainers write them."""
    tags = {"10_ink": {"ink drawing": 30, "tree": 4}, "5_more": {"tree": 9}}
    save_file(
        {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.zeros(1, 1)},
        tmp_path / "ink.safetensors",
        metadata={
            "ss_base_model_version": "sdxl_base_v1-0",
            "ss_output_name": "Ink drawings",
            "ss_tag_frequency": json.dumps(tags),
        },
    )
    by_width = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    for name, width in (("one", 768), ("xl", 2048), ("odd", 5)):
        save_file(
            {f"{by_width}.lora_down.weight": torch.zeros(4, width)},
            tmp_path / f"{name}.safetensors",
        )
    found: dict[str, LoraSpec] = load_loras(tmp_path)
    assert {name: lora.family for name, lora in found.items()} == {
        "ink": "sdxl",
        "one": "sd",
        "xl": "sdxl",
        "odd": None,
    }
    assert (found["ink"].title, found["ink"].triggers) == ("Ink drawings", ("ink drawing", "tree"))
    assert found["one"].triggers == ()
    assert load_loras(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.safetensors", b"", "no whole safetensors file"),
        ("a.safetensors", b"PK\x03\x04\0\0\x08\x08 data.pkl", "no whole safetensors file"),
        ("a.safetensors", (2**30).to_bytes(8, "little") + b"{}", "no whole safetensors file"),
        ("a b.safetensors", b"", "its name must be made of"),
    ],
)
def test_a_file_that_is_no_lora_is_refused_at_start(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    """And not by the first order that names it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        load_loras(tmp_path)


def test_a_checkpoint_is_no_lora(tmp_path: Path) -> None:
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="is no LoRA"):
        load_loras(tmp_path)
