"""weights_revision: a short hash of a checkpoint's weights and configs, which is recorded in every image.

Knows files and hashes; imports no torch, so the ingress can call it at start. Loading and checking the files
is `engine/model/`.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from serve_app.catalog.models import ModelSpec
from serve_app.errors import ModelError

COMMIT = re.compile(r"[0-9a-f]{40}")


def weights_revision(spec: ModelSpec, root: Path) -> str:
    """Twelve hex digits of the files' sha256, or of the pinned commit for a model from the hub."""
    if spec.hub is not None:
        return pinned_commit(spec)[:12]
    folder = model_folder(spec, root)
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json", ".txt"))
    if spec.tiny_decoder is not None:
        files += sorted(p for p in (root / spec.tiny_decoder).rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for path in files:
        stat = path.stat()
        digest.update(f"{path.parent.name}/{path.name}\0".encode())
        digest.update(_file_sha256(str(path), stat.st_mtime_ns, stat.st_size))
    return digest.hexdigest()[:12]


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


@lru_cache(maxsize=4096)
def _file_sha256(path: str, mtime_ns: int, size: int) -> bytes:
    """`mtime_ns` and `size` are part of the cache key: a changed file is read again."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
