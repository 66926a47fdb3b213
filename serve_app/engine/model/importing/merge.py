"""merge_loras(): adds LoRAs to the weights of a diffusers directory, which needs none of them afterwards.

Knows files and precisions. Which layers a LoRA changes is for `loras.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from serve_app.catalog.loras import LoraSpec
from serve_app.catalog.models import ModelSpec
from serve_app.engine.model.loading import load
from serve_app.engine.model.loras import Loras
from serve_app.errors import ModelError, RenderError
from serve_app.params import LoraUse

PRECISIONS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def merge_loras(
    spec: ModelSpec, folder: Path, loras: Sequence[tuple[LoraSpec, float]]
) -> list[str]:
    """`folder`: of the model `spec`. Computed in full precision; each network is written back in its own.
    Returns the parts that were changed. Raises ModelError."""
    parts = load(spec.model_copy(update={"dtype": "float32"}), folder, device="cpu")
    files = {lora.name: lora for lora, _ in loras}
    uses = [LoraUse(name=x.name, weight=weight, revision=x.revision) for x, weight in loras]
    try:
        changed = sorted(Loras(parts.pipe, files, torch.device("cpu")).merge(uses))
    except RenderError as error:
        raise ModelError(error.detail) from error
    for part in changed:
        network: Any = getattr(parts.pipe, part)
        (file,) = (folder / part).glob("*.safetensors")
        network.to(_precision(file))
        network.save_pretrained(folder / part, safe_serialization=True)
    return changed


def _precision(file: Path) -> torch.dtype:
    """Of most of its tensors."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    kinds = [entry["dtype"] for name, entry in header.items() if name != "__metadata__"]
    return PRECISIONS.get(max(set(kinds), key=kinds.count), torch.float32)
