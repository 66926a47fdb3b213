"""EmbeddingSpec: what is known of a textual inversion (arXiv:2208.01618) without loading it, and where a
prompt names one. Reads the folder `embeddings` beside the models file.

Knows headers of safetensors and text; nothing of weights. An embedding is named by its file, in a prompt
whose weights are read: as a word of its own, or as `embedding:NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from serve_app.catalog.file_hash import file_sha256
from serve_app.catalog.loras import NAME, header_of
from serve_app.errors import ConfigError

MOST_VECTORS = 75
"""As many as a window of a prompt has room for."""
OF_SDXL = ("clip_l", "clip_g")
"""Names of the tensors of a file for SDXL, in the order of its text encoders."""


@dataclass(frozen=True)
class EmbeddingSpec:
    """`family`: sd or sdxl. `tensors`: its vectors for each text encoder, by their names in the file."""

    name: str
    path: Path
    family: str
    tensors: tuple[str, ...]

    @cached_property
    def revision(self) -> str:
        """Twelve hex digits of the file's sha256."""
        return file_sha256(self.path).hex()[:12]


def load_embeddings(folder: Path) -> dict[str, EmbeddingSpec]:
    """By name, in small letters, as prompts are compared. Raises ConfigError for a file that is none."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    found: dict[str, EmbeddingSpec] = {}
    for path in files:
        spec = embedding_of(path)
        if (other := found.get(spec.name.lower())) is not None:
            raise ConfigError(
                f"embeddings/{path.name} has the name of {other.path.name}: capitals do not count"
            )
        found[spec.name.lower()] = spec
    return found


def embedding_of(path: Path) -> EmbeddingSpec:
    """Raises ConfigError."""
    if not NAME.fullmatch(path.stem):
        raise ConfigError(
            f"embeddings/{path.name}: its name must be made of letters, digits and `_ . -`"
        )
    header = header_of(path)
    header.pop("__metadata__", None)
    names = tuple(header)
    if set(names) == set(OF_SDXL):
        names, family = OF_SDXL, "sdxl"
    else:
        names, family = tuple(n for n in names if n == "emb_params") or names, "sd"
    shapes = [header[name]["shape"] for name in names]
    counts = {shape[0] if len(shape) == 2 else 1 for shape in shapes}
    fits = (family == "sdxl" or len(names) == 1) and all(len(shape) in (1, 2) for shape in shapes)
    if not fits or len(counts) != 1 or not 1 <= max(counts) <= MOST_VECTORS:
        raise ConfigError(
            f"embeddings/{path.name} is no textual inversion of 1 to {MOST_VECTORS} vectors for Stable "
            "Diffusion or SDXL"
        )
    return EmbeddingSpec(path.stem, path, family, names)


def parts_of(text: str, names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """The text in parts, each with the name (in small letters) of the embedding that it names, or None.
    `names`: in small letters."""
    at = 0
    for match in _pattern(tuple(names)).finditer(text) if names else ():
        if match.start() > at:
            yield text[at : match.start()], None
        yield match[0], match[1].lower()
        at = match.end()
    if at < len(text):
        yield text[at:], None


def named_in(texts: Iterable[str], known: Mapping[str, EmbeddingSpec]) -> list[EmbeddingSpec]:
    """Those of `known` that the texts name, each once, in their order."""
    found = (name for text in texts for _, name in parts_of(text, known) if name is not None)
    return [known[name] for name in dict.fromkeys(found)]


@lru_cache(maxsize=64)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """The longest name first, so that `hand-v4` is not taken for `hand`."""
    ordered = "|".join(map(re.escape, sorted(names, key=lambda name: -len(name))))
    return re.compile(rf"(?<![\w.-])(?:embedding:)?({ordered})(?![\w-])", re.IGNORECASE)
