"""weights_revision: a short hash of a checkpoint's weights and configs, which is recorded in every image.

Knows files and hashes; imports no torch, so the ingress can call it at start. Loading and checking the files
is `engine/model/`. Ingress, check and renderer each want the hash of the same gigabytes, so that of a large
file is kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from serve_app.catalog.models import ModelSpec
from serve_app.errors import ModelError

READ = (".safetensors", ".json", ".txt", ".model")
"""Endings of the files that loading reads; `.model` are tokenizers of sentencepiece."""
LARGE = 64 * 2**20  # bytes; smaller files are read faster than their hash is found
COMMIT = re.compile(r"[0-9a-f]{40}")


def weights_revision(spec: ModelSpec, root: Path) -> str:
    """Twelve hex digits: of the sha256 of everything that the pixels depend on. Of a plain model from the hub
    they are those of its pinned commit."""
    digest = hashlib.sha256()
    others = [root / folder for folder in (spec.vae, spec.tiny_decoder) if folder is not None]
    if spec.hub is not None:
        if not others and spec.variant is None:
            return pinned_commit(spec)[:12]
        digest.update(f"{pinned_commit(spec)} {spec.variant}\0".encode())
    else:
        folder = model_folder(spec, root)
        _add(digest, sorted(p for p in folder.rglob("*") if p.suffix in READ))
    for folder in others:
        _add(digest, sorted(p for p in folder.rglob("*") if p.is_file()))
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


def file_sha256(path: Path) -> bytes:
    """Read once per machine, as long as the file keeps its time and size."""
    stat = path.stat()
    return _file_sha256(str(path.resolve()), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _file_sha256(path: str, mtime_ns: int, size: int) -> bytes:
    """`mtime_ns` and `size` are part of the cache key: a changed file is read again."""
    kept = _kept_at(f"{path}\0{mtime_ns}\0{size}") if size >= LARGE else None
    if kept is not None:
        with contextlib.suppress(OSError, ValueError):
            known = bytes.fromhex(kept.read_text("ascii"))
            if len(known) == hashlib.sha256().digest_size:
                return known
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    if kept is not None:
        _keep(kept, digest.hex())
    return digest


def _kept_at(key: str) -> Path | None:
    """The file that keeps a hash; None for an account without a home."""
    try:
        folder = Path("~/.cache/ai-asset-generator").expanduser()
    except RuntimeError:
        return None
    return folder / hashlib.sha256(key.encode()).hexdigest()


def _keep(path: Path, text: str) -> None:
    """Whole or not at all. A folder that cannot be written only means that the file is read again."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(text)
        Path(file.name).replace(path)
