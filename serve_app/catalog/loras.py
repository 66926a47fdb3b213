"""LoraSpec: what is known of a LoRA without loading it. Reads the folder `loras` beside the models file.

Knows headers of safetensors and the metadata of trainers; nothing of weights. A LoRA is named by its file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from serve_app.catalog.families import UNETS
from serve_app.catalog.file_hash import file_sha256
from serve_app.errors import ConfigError

MAX_LORAS = 8
MAX_LORA_WEIGHT = 4.0
MOST_TRIGGERS = 12
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
HEADER_LIMIT = 100 * 2**20  # bytes; the format's own


@dataclass(frozen=True)
class LoraSpec:
    """`family`: sd or sdxl; None: the file does not say. `triggers`: words it was trained with, the most
    used first."""

    name: str
    path: Path
    title: str
    family: str | None
    triggers: tuple[str, ...]

    @cached_property
    def revision(self) -> str:
        """Twelve hex digits of the file's sha256."""
        return file_sha256(self.path).hex()[:12]


def load_loras(folder: Path) -> dict[str, LoraSpec]:
    """By name. Raises ConfigError for a file that is no whole safetensors file, or whose name no order could
    give."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return {path.stem: lora_of(path) for path in files}


def lora_problem(name: str, family: str, loras: Mapping[str, LoraSpec]) -> str | None:
    """Why a model of this family cannot be drawn with the LoRA of this name, or None."""
    if name not in loras:
        return f"no such LoRA: {name[:100]!r}"
    if family not in UNETS:
        return f"models of {family} take no LoRA here: only {' and '.join(UNETS)} models do"
    own = loras[name].family
    return None if own in (None, family) else f"{name!r} is for {own}, not for {family}"


def lora_of(path: Path) -> LoraSpec:
    """Raises ConfigError."""
    if not NAME.fullmatch(path.stem):
        raise ConfigError(
            f"loras/{path.name}: its name must be made of letters, digits and `_ . -`"
        )
    header = header_of(path)
    metadata: Mapping[str, Any] = header.pop("__metadata__", None) or {}
    if not any(".lora" in key or key.startswith("lora_") for key in header):
        raise ConfigError(
            f"loras/{path.name} is no LoRA: none of its tensors is named as one of a LoRA"
        )
    title = metadata.get("modelspec.title") or metadata.get("ss_output_name") or path.stem
    return LoraSpec(path.stem, path, str(title), _family(header, metadata), _triggers(metadata))


def header_of(path: Path) -> dict[str, Any]:
    """Of a safetensors file, by name of the tensor. Raises ConfigError where it is no whole one."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size
        try:
            if not 0 < length <= min(size - 8, HEADER_LIMIT):
                raise ValueError
            header: object = json.loads(file.read(length))
            if not isinstance(header, dict):
                raise ValueError
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
            if not ends or 8 + length + max(ends) != size:
                raise ValueError
        except (ValueError, KeyError, TypeError, IndexError) as error:
            name = f"{path.parent.name}/{path.name}"
            raise ConfigError(f"{name} is no whole safetensors file") from error
    return header


def _family(header: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    said = (
        f"{metadata.get('ss_base_model_version')} {metadata.get('modelspec.architecture')}".lower()
    )
    if "xl" in said:
        return "sdxl"
    if re.search(r"sd_v[12]|stable-diffusion-v[12]", said):
        return "sd"
    if any(key.startswith(("lora_te2_", "text_encoder_2.")) for key in header):
        return "sdxl"
    for key, entry in header.items():  # what reads text is as wide as the text
        if re.search(r"attn2[._]to_k", key) and re.search(r"lora(_down|\.down|_A)\.weight", key):
            width = entry["shape"][1]
            return {768: "sd", 1024: "sd", 2048: "sdxl"}.get(width)
    return None


def _triggers(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Of kohya's trainers: how often each tag was in the captions."""
    counts: dict[str, int] = {}
    try:
        folders: object = json.loads(metadata.get("ss_tag_frequency") or "{}")
        if not isinstance(folders, dict):
            return ()
        for tags in folders.values():
            for tag, count in tags.items():
                counts[tag.strip()] = counts.get(tag.strip(), 0) + int(count)
    except (ValueError, AttributeError, TypeError):
        return ()
    said = (
        [str(metadata["modelspec.trigger_phrase"])]
        if "modelspec.trigger_phrase" in metadata
        else []
    )
    often = sorted(counts, key=lambda tag: -counts[tag])
    return tuple(dict.fromkeys([*said, *filter(None, often)]))[:MOST_TRIGGERS]
