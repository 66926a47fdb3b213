"""Loras: the low-rank weights of LoRA files (arXiv:2106.09685), added to a network's layers for one call.

Knows layers and the names that kohya's trainers, peft and diffusers give them; nothing of requests. A network
is never changed: outside the context every bit is as it was loaded. Files are read in the text thread.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from serve_app.catalog.loras import LoraSpec
from serve_app.errors import RenderError
from serve_app.params import LoraUse

KEPT = 16  # files in memory beyond those in use
ENDS = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_A.default.weight": "down",
    "lora_B.default.weight": "up",
    "alpha": "alpha",
}
BEGINS = {
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te_": "text_encoder",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "base_model.model.": "unet",
}
OTHER_KINDS = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "dora_scale": "DoRA",
    "lora_mid": "a LoRA with a core",
}


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """down (rank, in, ...), up (out, rank, ...); what they add is multiplied by weight x alpha / rank."""

    module: nn.Module
    down: Tensor
    up: Tensor
    alpha: float

    def scale(self, weight: float) -> float:
        return weight * self.alpha / self.down.shape[0]


File = Mapping[str, Sequence[Layer]]  # by part of the pipeline
Added = Sequence[tuple[File, float]]  # each with its weight, in their order


class Loras:
    """`specs`: those that orders may name. Call `load` and `on` for text encoders in the text thread only."""

    def __init__(self, pipe: Any, specs: Mapping[str, LoraSpec], device: torch.device) -> None:
        self._pipe, self._specs, self._device = pipe, specs, device
        self._files: OrderedDict[tuple[str, str], File] = OrderedDict()
        self._layers: dict[str, dict[str, nn.Module]] | None = None

    def load(self, uses: Sequence[LoraUse]) -> Added:
        """Raises RenderError for a file that is gone, has changed, or does not fit the model."""
        return tuple((self._file(use), use.weight) for use in uses)

    def forget(self) -> None:
        """Give back what no request uses: the model leaves the device, and files are read again."""
        self._files.clear()

    @contextmanager
    def on(self, part: str, added: Added) -> Generator[None]:
        """Within, the network `part` of the pipeline draws with these LoRAs."""
        by_module: dict[nn.Module, list[tuple[Layer, float]]] = {}
        for file, weight in added:
            for layer in file.get(part, ()):
                by_module.setdefault(layer.module, []).append((layer, layer.scale(weight)))
        with ExitStack() as undo:
            for module, layers in by_module.items():
                object.__setattr__(module, "forward", partial(_forward, module, layers))
                undo.callback(delattr, module, "forward")
            yield

    def merge(self, uses: Sequence[LoraUse]) -> set[str]:
        """Add them to the networks' own weights, for good. Returns the parts that have changed. Raises as
        `load`."""
        changed: set[str] = set()
        for file, weight in self.load(uses):
            for part, layers in file.items():
                changed.add(part)
                for layer in layers:
                    own: Any = layer.module.weight
                    own.data += _product(layer) * layer.scale(weight)
        return changed

    def _file(self, use: LoraUse) -> File:
        key = use.name, use.revision
        if key not in self._files:
            self._files[key] = self._read(use)
        self._files.move_to_end(key)
        while len(self._files) > KEPT:
            self._files.popitem(last=False)
        return self._files[key]

    def _read(self, use: LoraUse) -> File:
        spec = self._specs.get(use.name)
        if spec is None or not spec.path.is_file() or _now(spec).revision != use.revision:
            raise RenderError(f"the LoRA {use.name} is gone or has changed since it was ordered")
        try:
            tensors: dict[str, Tensor] = load_file(spec.path)
        except (SafetensorError, OSError) as error:
            raise RenderError(f"the LoRA {use.name} cannot be read") from error
        for mark, kind in OTHER_KINDS.items():
            if any(mark in key for key in tensors):
                raise RenderError(f"the LoRA {use.name} is {kind}, which is not drawn here")
        if any(key.startswith("lora_unet_") for key in tensors) and _is_sgm(tensors):
            unet = {k: v for k, v in tensors.items() if k.startswith("lora_unet_")}
            others = {k: v for k, v in tensors.items() if k not in unet}
            tensors = others | _maybe_map_sgm_blocks_to_diffusers(unet, self._pipe.unet.config)
        found = self._matched(use.name, tensors)
        if not any(found.values()):
            raise RenderError(f"the LoRA {use.name} has no layer of this model")
        return found

    def _matched(self, name: str, tensors: Mapping[str, Tensor]) -> File:
        pieces: dict[tuple[str, str], dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, rest = next(
                ((p, key[len(b) :]) for b, p in BEGINS.items() if key.startswith(b)), ("", "")
            )
            end = next((e for e in ENDS if rest.endswith(f".{e}")), None)
            if end is not None:
                path = _flat(rest.removesuffix(f".{end}"))
                pieces.setdefault((part, path), {})[ENDS[end]] = value
        found: dict[str, list[Layer]] = {}
        for (part, path), tensor in pieces.items():
            module = self._modules().get(part, {}).get(path)
            if module is None or "down" not in tensor or "up" not in tensor:
                raise RenderError(f"the LoRA {name} was trained for another model: no layer {path}")
            found.setdefault(part, []).append(self._layer(name, module, tensor))
        return found

    def _layer(self, name: str, module: Any, tensor: Mapping[str, Tensor]) -> Layer:
        down, up = tensor["down"], tensor["up"]
        weight = module.weight
        wide = (up.shape[0], down.shape[1]) == (weight.shape[0], weight.shape[1])
        if (
            not wide
            or down.shape[0] != up.shape[1]
            or not (down.isfinite().all() and up.isfinite().all())
        ):
            raise RenderError(f"the LoRA {name} does not fit this model: other widths, or NaN")
        if weight.ndim == 2:
            down, up = down.flatten(1), up.flatten(1)
        alpha = float(tensor["alpha"]) if "alpha" in tensor else float(down.shape[0])
        down, up = (x.to(dtype=weight.dtype).to(self._device) for x in (down, up))
        return Layer(module, down, up, alpha)

    def _modules(self) -> dict[str, dict[str, nn.Module]]:
        """Layers by part and by path, dots as `_`, which is how kohya's trainers write it."""
        if self._layers is None:
            self._layers = {
                part: {
                    _flat(path): module
                    for path, module in network.named_modules()
                    if isinstance(module, nn.Linear | nn.Conv2d)
                }
                for part in ("unet", "text_encoder", "text_encoder_2")
                if (network := getattr(self._pipe, part, None)) is not None
            }
        return self._layers


def _product(layer: Layer) -> Tensor:
    """up x down, in the shape of the layer's weight."""
    if layer.down.ndim == 2:
        return layer.up @ layer.down
    return torch.einsum("or,rihw->oihw", layer.up.flatten(1), layer.down)


def _flat(path: str) -> str:
    return re.sub(r"^text_model_", "", path.replace(".", "_"))


def _is_sgm(tensors: Mapping[str, Tensor]) -> bool:
    """Whether blocks have the numbers of the original code, as files for SDXL have."""
    return any(re.match(r"lora_unet_(in|out)put_blocks_", key) for key in tensors)


def _now(spec: LoraSpec) -> LoraSpec:
    """With the hash of the file as it is now."""
    return LoraSpec(spec.name, spec.path, spec.title, spec.family, spec.triggers)


def _forward(module: Any, layers: Sequence[tuple[Layer, float]], x: Tensor) -> Tensor:
    """In the sequence in which peft adds, so that the bits are the same."""
    result = type(module).forward(module, x)
    for layer, scale in layers:
        if isinstance(module, nn.Conv2d):
            inner = module._conv_forward(x, layer.down, None)
            result = result + conv2d(inner, layer.up) * scale
        else:
            result = result + linear(linear(x, layer.down), layer.up) * scale
    return result
