"""Header: the names, shapes and types of the tensors in a safetensors file, without reading one of them.

Knows the file format; nothing of models. Imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from serve_app.engine.model.checkpoint import check_safetensors

Shape = tuple[int, ...]
MOST_METADATA = 1000  # characters of one value; trainers also store their whole log


@dataclass(frozen=True)
class Header:
    """`metadata`: what the program that wrote the file says of it, as text."""

    shapes: dict[str, Shape]
    types: dict[str, str]  # F32, F16, BF16, F8_E4M3, ...
    metadata: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ModelError if the file is no whole safetensors file."""
        check_safetensors(path, path.name)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            content: dict[str, Any] = json.loads(file.read(length))
        found: dict[str, Any] = content.pop("__metadata__", None) or {}
        return cls(
            {name: tuple(entry["shape"]) for name, entry in content.items()},
            {name: str(entry["dtype"]) for name, entry in content.items()},
            {str(k): str(v)[:MOST_METADATA] for k, v in found.items()},
        )

    def below(self, prefix: str) -> dict[str, Shape]:
        """Shapes of the tensors whose names begin so, by the rest of the name."""
        return {
            name.removeprefix(prefix): shape
            for name, shape in self.shapes.items()
            if name.startswith(prefix)
        }
