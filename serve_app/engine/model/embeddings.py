"""Embeddings: the vectors of textual inversions, which stand in the place of words.

Knows files and text encoders; nothing of requests. Files are read in the text thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from serve_app.catalog.embeddings import EmbeddingSpec, embedding_of
from serve_app.errors import ConfigError, RenderError
from serve_app.params import EmbeddingUse

Vectors = Mapping[str, Sequence[Tensor]]
"""By name in small letters, (vectors, width) for each text encoder."""
NO_VECTORS: Vectors = {}


class Embeddings:
    """`specs`: those that prompts may name, by name in small letters."""

    def __init__(self, pipe: Any, specs: Mapping[str, EmbeddingSpec]) -> None:
        self._pipe, self._specs = pipe, specs
        self._files: dict[EmbeddingUse, Sequence[Tensor]] = {}

    def load(self, uses: Sequence[EmbeddingUse]) -> Vectors:
        """Raises RenderError for a file that is gone, has changed, or does not fit the model."""
        for use in uses:
            if use not in self._files:
                self._files[use] = self._read(use)
        return {use.name.lower(): self._files[use] for use in uses}

    def _read(self, use: EmbeddingUse) -> Sequence[Tensor]:
        what = f"the textual inversion {use.name}"
        spec = self._specs.get(use.name.lower())
        try:
            if spec is None or embedding_of(spec.path).revision != use.revision:
                raise RenderError(f"{what} is gone or has changed since it was ordered")
            tensors = load_file(spec.path)
        except (ConfigError, SafetensorError, OSError) as error:
            raise RenderError(f"{what} is gone or has changed since it was ordered") from error
        found: list[Tensor] = []
        encoders: list[Any] = [self._pipe.text_encoder, getattr(self._pipe, "text_encoder_2", None)]
        for name, encoder in zip(spec.tensors, encoders, strict=False):
            table = encoder.get_input_embeddings().weight
            vectors = tensors[name].reshape(-1, tensors[name].shape[-1])
            if vectors.shape[-1] != table.shape[-1] or not vectors.isfinite().all():
                raise RenderError(f"{what} does not fit this model: other widths, or NaN")
            found.append(vectors.to(dtype=table.dtype).to(table.device))
        return found
