"""The revision of weights: it changes with every file that can change a pixel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from serve_app.catalog.file_hash import _file_sha256
from serve_app.catalog.models import ModelSpec
from serve_app.catalog.revision import (
    model_folder,
    pinned_commit,
    weights_revision,
)
from serve_app.errors import ModelError
from tests.factories import model_spec

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def spec(**changes: Any) -> ModelSpec:
    return model_spec(**{"path": "m", **changes})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkpoint's files, with letters for weights."""
    for name, content in {
        "m/model_index.json": "{}",
        "m/unet/weights.safetensors": "abc",
        "m/vae/weights.safetensors": "def",
        "m/tokenizer/merges.txt": "a b",
        "m/tokenizer/spiece.model": "pieces",
        "taesd/weights.safetensors": "xyz",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "m/model_index.json",
        "m/unet/weights.safetensors",
        "m/tokenizer/merges.txt",
        "m/tokenizer/spiece.model",
    ],
)
def test_one_changed_byte_gives_another_revision(root: Path, name: str) -> None:
    """In weights, configs and tokenizers; with the first content back, the first revision is back."""
    before, content = weights_revision(spec(), root), (root / name).read_text()
    (root / name).write_text(content + " ")
    assert weights_revision(spec(), root) != before
    (root / name).write_text(content)
    assert weights_revision(spec(), root) == before
    assert len(before) == 12


def test_swapped_files_give_another_revision(root: Path) -> None:
    """Names count, not only the bytes."""
    before = weights_revision(spec(), root)
    unet, vae = (root / "m" / part / "weights.safetensors" for part in ("unet", "vae"))
    one, other = unet.read_bytes(), vae.read_bytes()
    unet.write_bytes(other)
    vae.write_bytes(one)
    assert weights_revision(spec(), root) != before


def test_a_readme_changes_nothing(root: Path) -> None:
    """Only files that may be loaded count."""
    before = weights_revision(spec(), root)
    (root / "m" / "README.md").write_text("words")
    assert weights_revision(spec(), root) == before


def test_the_tiny_decoder_counts(root: Path) -> None:
    """It draws the images of the draft tier."""
    with_decoder = spec(tiny_decoder="taesd")
    before = weights_revision(with_decoder, root)
    assert before != weights_revision(spec(), root)
    (root / "taesd" / "weights.safetensors").write_text("xya")
    assert weights_revision(with_decoder, root) != before


def test_a_model_from_the_hub_has_its_commit(tmp_path: Path) -> None:
    """Without a download."""
    from_hub = spec(path=None, hub="someone/m", revision=COMMIT)
    assert pinned_commit(from_hub) == COMMIT
    assert weights_revision(from_hub, tmp_path) == COMMIT[:12]


def test_all_that_a_hub_model_draws_with_counts(root: Path) -> None:
    """Its variant holds other weights, and other decoders are files of this machine."""
    found = [
        weights_revision(spec(path=None, hub="someone/m", revision=COMMIT, **changes), root)
        for changes in ({}, {"variant": "fp16"}, {"tiny_decoder": "taesd"}, {"vae": "taesd"})
    ]
    assert len(set(found[:3])) == 3
    assert found[2] == found[3] != found[0]  # each is the only other decoder
    (root / "taesd" / "weights.safetensors").write_text("xya")
    changed = spec(path=None, hub="someone/m", revision=COMMIT, tiny_decoder="taesd")
    assert weights_revision(changed, root) != found[2]


def test_a_large_file_is_read_once_per_machine(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hash outlives the process, until its time or size changes."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("serve_app.catalog.file_hash.LARGE", 3)
    weights = root / "m/unet/weights.safetensors"
    _file_sha256.cache_clear()
    before = weights_revision(spec(), root)
    times = weights.stat()
    weights.write_text("ABC")  # unseen: same size, and the old time
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    _file_sha256.cache_clear()  # as in another process
    assert weights_revision(spec(), root) == before
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert weights_revision(spec(), root) != before


@pytest.mark.parametrize("kept", ["", "zz", "abcd"])
def test_a_damaged_cache_of_hashes_is_not_believed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """Nor is one that cannot be written missed."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = weights_revision(spec(), root)
    monkeypatch.setattr("serve_app.catalog.file_hash.LARGE", 3)
    for _ in range(2):
        _file_sha256.cache_clear()
        assert weights_revision(spec(), root) == before
        for file in (tmp_path / "home/.cache/ai-asset-generator").iterdir():
            file.write_text(kept)
    (tmp_path / "other").write_text("no folder")
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    _file_sha256.cache_clear()
    assert weights_revision(spec(), root) == before


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:12], COMMIT.upper(), None])
def test_a_hub_model_needs_a_full_commit_id(revision: str | None) -> None:
    """A branch or tag moves, so images could change without notice."""
    with pytest.raises(ModelError, match="40-digit commit"):
        pinned_commit(spec(path=None, hub="someone/m", revision=revision))


def test_a_directory_without_an_index_is_refused(root: Path) -> None:
    """As a missing one, and a spec with two sources. The error shows the path as models.yaml has it."""
    assert model_folder(spec(), root) == root / "m"
    for wrong, reason in (
        (spec(path="taesd"), "taesd has no model_index.json"),
        (spec(path="nowhere"), "nowhere is not a directory"),
        (spec(hub="someone/m"), "exactly one of"),
    ):
        with pytest.raises(ModelError, match=reason) as caught:
            model_folder(wrong, root)
        assert str(root) not in caught.value.detail
