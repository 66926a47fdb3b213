"""file_sha256(): the hash of a file, which is read once per machine.

Knows files; nothing of models. Ingress, check and renderer each want the hash of the same gigabytes, so that
of a large file is kept in the cache folder of the user.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from functools import lru_cache
from pathlib import Path

LARGE = 64 * 2**20  # bytes; smaller files are read faster than their hash is found


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
