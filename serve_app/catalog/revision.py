"""weights_revision: a short hash of a checkpoint's weights and configs, which is recorded in every image.

Knows files and hashes; imports no torch, so the ingress can call it at start. Loading and checking the files
is `engine/model/`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from serve_app.catalog.file_hash import file_sha256
from serve_app.catalog.models import ModelSpec
from serve_app.errors import ModelError

READ = (".safetensors", ".json", ".txt", ".model")
"""Endings of the files that loading reads; `.model` are tokenizers of sentencepiece."""
COMMIT = re.compile(r"[0-9a-f]{40}")


def weights_revision(spec: ModelSpec, root: Path) -> str:
    """Twelve hex digits: of the sha256 of everything that the pixels depend on. Of a plain model from the hub
    they are those of its pinned commit."""
    digest = hashlib.sha256()
    others = [root / folder for folder in (spec.vae, spec.tiny_decoder) if folder is not None]
    others += [root / control.path for _, control in sorted(spec.controls.items())]
    if spec.reference is not None:
        others += [root / spec.reference.path, root / spec.reference.image_encoder]
    if spec.hub is not None:
        if not others and spec.variant is None:
            return pinned_commit(spec)[:12]
        digest.update(f"{pinned_commit(spec)} {spec.variant}\0".encode())
    else:
        folder = model_folder(spec, root)
        _add(digest, sorted(p for p in folder.rglob("*") if p.suffix in READ))
    for folder in others:
        files = [folder] if folder.is_file() else folder.rglob("*")
        _add(digest, sorted(p for p in files if p.is_file()))
    return digest.hexdigest()[:12]


def _add(digest: Any, files: list[Path]) -> None:
    for path in files:
        digest.update(f"{path.parent.name}/{path.name}\0".encode())
        digest.update(file_sha256(path))


def pinned_commit(spec: ModelSpec) -> str:
    """The full commit id of a model from the hub. Raises ModelError where it is not one."""
    if spec.revision is None or not COMMIT.fullmatch(spec.revision):
        raise ModelError(
            f"model {spec.name!r}: `revision` must be the full 40-digit commit id of {spec.hub}; "
            "branches and tags move"
        )
    return spec.revision


def model_folder(spec: ModelSpec, root: Path) -> Path:
    """The directory of a local model, which holds a diffusers index. Raises ModelError."""
    if (spec.path is None) == (spec.hub is None):
        raise ModelError(f"model {spec.name!r}: give exactly one of `path` and `hub`")
    folder = root / str(spec.path)
    if not folder.is_dir():
        raise ModelError(f"model {spec.name!r}: {spec.path} is not a directory")
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"model {spec.name!r}: {spec.path} has no model_index.json; it must be a diffusers "
            "directory as `save_pretrained` writes it"
        )
    return folder
