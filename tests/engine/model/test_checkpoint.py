"""Damaged checkpoints: each kind is refused with a reason, before anything reads their weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from serve_app.engine.model.checkpoint import check_safetensors
from serve_app.engine.model.loading import load
from serve_app.errors import ModelError
from tests.engine import tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tiny.save(tiny.pipeline(), root / "tiny")
    return root


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(saved / "tiny", tmp_path / "tiny")
    return tmp_path / "tiny"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def to_pickle(model: Path) -> None:
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()


def truncate(model: Path) -> None:
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def empty(model: Path) -> None:
    (model / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"")


def lose_weights(model: Path) -> None:
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors.pop("conv_in.weight")
    save_file(tensors, weights)


def other_channels(model: Path) -> None:
    shutil.rmtree(model / "vae")
    tiny.tiny_decoder(latent_channels=8).save_pretrained(model / "vae")
    edit(model / "model_index.json", vae=["diffusers", "AutoencoderTiny"])


def other_text_width(model: Path) -> None:
    shutil.rmtree(model / "unet")
    tiny.unet(cross_attention_dim=48).save_pretrained(model / "unet")


def foreign_class(model: Path) -> None:
    edit(model / "model_index.json", unet=["diffusers", "FluxTransformer2DModel"])


def foreign_module(model: Path) -> None:
    edit(model / "model_index.json", text_encoder=["os", "system"])


def foreign_code(model: Path) -> None:
    edit(model / "text_encoder" / "config.json", auto_map={"AutoModel": "evil.Model"})


def other_pipeline(model: Path) -> None:
    edit(model / "model_index.json", _class_name="FluxPipeline")


def no_index(model: Path) -> None:
    (model / "model_index.json").unlink()


def broken_index(model: Path) -> None:
    (model / "model_index.json").write_text("{")


def no_part(model: Path) -> None:
    shutil.rmtree(model / "text_encoder")


def no_tokenizer_files(model: Path) -> None:
    for file in (model / "tokenizer").iterdir():
        file.unlink()


def long_tokenizer(model: Path) -> None:
    edit(model / "tokenizer" / "tokenizer_config.json", model_max_length=4096)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (to_pickle, "pickled weights"),
        (truncate, "truncated"),
        (empty, "empty or truncated"),
        (lose_weights, "lacks 1 weights"),
        (other_channels, "4 latent channels in and 4 out, the vae 8"),
        (other_text_width, "unet expects text of width 48, got 32"),
        (foreign_class, "not on the list"),
        (foreign_module, "not on the list"),
        (foreign_code, "foreign code"),
        (other_pipeline, "needs a StableDiffusionPipeline"),
        (no_index, "no model_index.json"),
        (broken_index, "not JSON"),
        (no_part, "text_encoder/ is missing"),
        (no_tokenizer_files, "tokenizer"),
        (long_tokenizer, "its text encoder reads 16"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_checkpoint_is_refused(
    damage: Callable[[Path], None], reason: str, model: Path
) -> None:
    """The error names the model and what is wrong, and no directory of this machine."""
    damage(model)
    with pytest.raises(ModelError) as caught:
        load(tiny.spec(), model.parent, device="cpu")
    assert reason in caught.value.detail
    assert "'tiny'" in caught.value.detail
    assert str(model.parent) not in caught.value.detail


def test_a_checkpoint_of_another_family_is_refused(tmp_path: Path) -> None:
    """SDXL weights under `family: sd` would only fail in the first call."""
    tiny.save(tiny.xl_pipeline(), tmp_path / "xl")
    with pytest.raises(ModelError, match="family sd"):
        load(tiny.spec(path="xl"), tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\x02\0\0", "empty"),
        ((10**9).to_bytes(8, "little") + b"{}", "claims a header of 1000000000 bytes"),
        ((10**6).to_bytes(8, "little") + b"{}", "truncated"),
        (b"PK\x03\x04\0\0\x08\x08 archive/data.pkl", "a pickle .* can run code"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 jp", "a pickle .* can run code"),
        (b"GGUF\x03\0\0\0\0\0\0", "a GGUF"),
        (b"<!DOCTYPE html><title>Log in</title>", "a web page; the download needs a login"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        ((2).to_bytes(8, "little") + b"{}", "holds no tensors"),
        ((2).to_bytes(8, "little") + b"[]", "not a safetensors file"),
        ((2).to_bytes(8, "little") + b"\xff\xff", "not a safetensors file"),
        ((10).to_bytes(8, "little") + b'{"a": {} }', "not a safetensors file"),
    ],
)
def test_a_file_that_is_not_safetensors_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    """Under the name that it was given, whatever the bytes are."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=reason) as caught:
        check_safetensors(path, "the weights")
    assert caught.value.detail.startswith("the weights ")


def test_whole_safetensors_pass_and_one_byte_more_or_less_does_not(tmp_path: Path) -> None:
    """The header says where the last tensor ends."""
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(3), "b": torch.zeros(2, 2)}, path, metadata={"format": "pt"})
    check_safetensors(path, "the weights")
    whole = path.read_bytes()
    for changed in (whole[:-1], whole + b"\0"):
        path.write_bytes(changed)
        with pytest.raises(ModelError, match="truncated"):
            check_safetensors(path, "the weights")
