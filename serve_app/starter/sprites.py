"""The sprites of every picture set with their styles and names, in one file.

It does not know where they come from or how they become training pictures.
"""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .run import require, write_atomically

SIZE = 128  # pixels
STYLES = ("icon", "flat", "silhouette", "pixel_icon", "pixel_character", "tile")


@dataclass(frozen=True)
class CutOut:
    """`names[0]` is its own name, the others mean the same; `tags` only hint at it."""

    style: str
    look: str  # the set it is from
    size: int  # pixels of its side: 128, or 32 for pixel art
    names: tuple[str, ...]
    tags: tuple[str, ...] = ()
    concept: str = ""  # label of vocabulary.txt, for the judge


@dataclass(frozen=True)
class Sprites:
    """`files[i]` is the WebP or PNG of `about[i]`."""

    about: list[CutOut]
    files: list[bytes]

    def save(self, path: Path) -> None:
        buffer = io.BytesIO()
        text = json.dumps([asdict(one) for one in self.about]).encode()
        np.savez(
            buffer,
            about=np.frombuffer(text, np.uint8),
            ends=np.cumsum([len(f) for f in self.files]),
            files=np.frombuffer(b"".join(self.files), np.uint8),
        )
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Sprites:
        with np.load(require(path, "data")) as content:
            records: list[dict[str, Any]] = json.loads(content["about"].tobytes())
            ends, joined = content["ends"].tolist(), content["files"].tobytes()
        starts = [0, *ends[:-1]]
        about = [
            CutOut(
                r["style"], r["look"], r["size"], tuple(r["names"]), tuple(r["tags"]), r["concept"]
            )
            for r in records
        ]
        return cls(about, [joined[a:b] for a, b in zip(starts, ends, strict=True)])

    def pixels(self, size: int) -> tuple[list[int], np.ndarray]:
        """Places and pixels (N, size, size, 4; uint8) of the sprites of this size."""
        rows = [row for row, one in enumerate(self.about) if one.size == size]

        def decoded(row: int) -> np.ndarray:
            return np.asarray(Image.open(io.BytesIO(self.files[row])).convert("RGBA"))

        with ThreadPoolExecutor() as pool:
            found = list(pool.map(decoded, rows))
        return rows, np.stack(found) if found else np.empty((0, size, size, 4), np.uint8)
