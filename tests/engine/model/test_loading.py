"""Good checkpoints on disk become ModelParts, as their spec says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from serve_app.catalog.revision import weights_revision
from serve_app.engine.model.loading import auto_dtype, load
from serve_app.errors import ModelError
from tests.engine import tiny
from tests.engine.model.harness import alone, plain
from tests.factories import params


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tiny.save(tiny.pipeline(), root / "tiny")
    tiny.save(tiny.xl_pipeline(), root / "xl")
    tiny.tiny_decoder().save_pretrained(root / "taesd")
    return root


@pytest.mark.parametrize(("path", "family"), [("tiny", "sd"), ("xl", "sdxl")])
def test_a_good_checkpoint_loads(saved: Path, path: str, family: str) -> None:
    """Both families, with what is recorded in each image."""
    parts = load(tiny.spec(path=path, family=family), saved, device="cpu")
    assert parts.pipe.unet.dtype is torch.float32
    assert parts.made_by["weights"] == parts.revision
    assert parts.made_by["device"] == "cpu"
    # `torch.__version__` is a subclass of str: unpickling it would import torch in every job task.
    assert {type(value) for value in parts.made_by.values()} == {str, int}


def test_parts_are_loaded_in_the_type_and_layout_of_the_spec(saved: Path) -> None:
    """A directory stored in another type is converted; nothing is trained."""
    spec = tiny.spec(dtype="bfloat16", channels_last=True)
    parts = load(spec, saved, device="cpu")
    weight = parts.pipe.unet.conv_in.weight
    assert (parts.dtype, weight.dtype) == (torch.bfloat16, torch.bfloat16)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(p.requires_grad for p in parts.pipe.unet.parameters())
    assert not parts.pipe.unet.training


def test_a_tiny_decoder_comes_from_its_own_directory(saved: Path) -> None:
    """It counts for the revision, because it can change pixels. A wrong directory is refused."""
    spec = tiny.spec(tiny_decoder="taesd")
    parts = load(spec, saved, device="cpu")
    assert parts.tiny_decoder.config.latent_channels == 4
    assert parts.revision == weights_revision(spec, saved) != weights_revision(tiny.spec(), saved)
    with pytest.raises(ModelError, match="tiny_decoder is not a directory"):
        load(tiny.spec(tiny_decoder="nowhere"), saved, device="cpu")


def test_a_tiny_decoder_of_another_family_is_refused(saved: Path) -> None:
    """At load, and not by the first draft that is ordered."""
    tiny.tiny_decoder(latent_channels=8).save_pretrained(saved / "taesd8")
    with pytest.raises(ModelError, match="reads 8 latent channels, the model draws 4"):
        load(tiny.spec(tiny_decoder="taesd8"), saved, device="cpu")


def test_another_vae_comes_from_its_own_directory(saved: Path) -> None:
    """It draws instead of the checkpoint's, and counts for the revision. A wrong directory is refused."""
    torch.manual_seed(7)
    other = tiny.vae()
    other.save_pretrained(saved / "other_vae")
    spec = tiny.spec(vae="other_vae")
    parts = load(spec, saved, device="cpu")
    assert torch.equal(parts.vae.decoder.conv_in.weight, other.decoder.conv_in.weight)
    assert parts.revision == weights_revision(spec, saved) != weights_revision(tiny.spec(), saved)
    for wrong, reason in (
        ("nowhere", "vae is not a directory"),
        ("taesd", "lacks|cannot be loaded"),
    ):
        with pytest.raises(ModelError, match=reason):
            load(tiny.spec(vae=wrong), saved, device="cpu")


def test_a_model_that_names_no_type_gets_that_of_its_device(saved: Path) -> None:
    """Half precision on a GPU, full on a CPU."""
    parts = load(tiny.spec(dtype="auto"), saved, device="cpu")
    assert (parts.dtype, parts.made_by["dtype"]) == (torch.float32, "float32")


@pytest.mark.parametrize(
    ("capability", "kind", "dtype"),
    [
        ((6, 1), "unet", "float32"),
        ((7, 0), "unet", "float16"),
        ((9, 0), "unet", "float16"),
        ((7, 5), "transformer", "float32"),
        ((8, 0), "transformer", "bfloat16"),
    ],
)
def test_an_old_gpu_is_not_asked_for_half_precision(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], kind: str, dtype: str
) -> None:
    """Before Volta it calculates in it many times slower. What torch says of a GPU stands for one."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)  # pyright: ignore
    assert auto_dtype(torch.device("cuda"), kind) == dtype


@pytest.mark.filterwarnings("ignore:.*upcast_vae:FutureWarning")  # diffusers' own way
def test_an_sdxl_in_half_precision_can_be_called_plainly(saved: Path) -> None:
    """Its VAE overflows in half precision. The plain pipeline casts it at each call; the engine has a copy,
    and both draw the same."""
    parts = load(tiny.spec(path="xl", family="sdxl", dtype="float16"), saved, device="cpu")
    assert (parts.pipe.vae.dtype, parts.vae.dtype) == (torch.float16, torch.float32)
    wanted = params(steps=2)
    drawn = alone(parts, wanted)
    assert torch.equal(drawn, plain(parts, wanted))
    assert torch.equal(drawn, alone(parts, wanted))


def test_a_hub_model_without_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message names the repository and the way without a hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    spec = tiny.spec(path=None, hub="someone/model", revision="0" * 40, variant="fp16")
    with pytest.raises(
        ModelError, match=r"someone/model cannot be downloaded.*variant fp16.*import"
    ):
        load(spec, tmp_path, device="cpu")


def test_a_hub_model_without_a_full_commit_id_is_not_downloaded(tmp_path: Path) -> None:
    """A branch moves, so images could change without notice."""
    spec = tiny.spec(path=None, hub="someone/model", revision="main")
    with pytest.raises(ModelError, match="40-digit commit"):
        load(spec, tmp_path)
