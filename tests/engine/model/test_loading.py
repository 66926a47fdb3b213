"""Checkpoints on disk: a good one loads and draws; every kind of bad one is refused with a reason."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from serve_app.catalog.revision import weights_revision
from serve_app.engine.model.loading import load
from serve_app.errors import ModelError
from tests.engine import tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tiny.save(tiny.pipeline(), root / "tiny")
    tiny.save(tiny.xl_pipeline(), root / "xl")
    return root


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
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


@pytest.mark.parametrize(("path", "family"), [("tiny", "sd"), ("xl", "sdxl")])
def test_a_good_checkpoint_loads(saved: Path, path: str, family: str) -> None:
    """Both families, with what made the images written down."""
    parts = load(tiny.spec(path=path, family=family), saved, device="cpu")
    assert parts.pipe.unet.dtype is torch.float32
    assert parts.made_by["weights"] == parts.revision
    assert parts.made_by["device"] == "cpu"
    # `torch.__version__` is a subclass of str: every job task would load torch to read its events.
    assert {type(value) for value in parts.made_by.values()} == {str, int}


def test_a_checkpoint_of_another_family_is_refused(saved: Path) -> None:
    """SDXL weights under `family: sd` would fail in the first call; they fail here."""
    with pytest.raises(ModelError, match="family sd"):
        load(tiny.spec(path="xl"), saved, device="cpu")


def test_a_hub_model_needs_a_full_commit_id(tmp_path: Path) -> None:
    """A branch moves, so images could change without notice."""
    spec = tiny.spec(path=None, hub="someone/model", revision="main")
    with pytest.raises(ModelError, match="40-digit commit"):
        load(spec, tmp_path)


def test_the_revision_follows_the_files(model: Path) -> None:
    """Equal files give an equal revision; one changed byte gives another."""
    spec = tiny.spec()
    before = weights_revision(spec, model.parent)
    assert before == weights_revision(spec, model.parent)
    edit(model / "scheduler" / "scheduler_config.json", beta_end=0.02)
    assert weights_revision(spec, model.parent) != before


@pytest.mark.parametrize(
    "module", ["revision", "engine", "scheduler", "request", "costs", "orders", "build"]
)
def test_pure_modules_import_no_torch(module: str) -> None:
    """The ingress asks for revisions, and the policy is plain Python."""
    code = f"import sys, serve_app.engine.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
