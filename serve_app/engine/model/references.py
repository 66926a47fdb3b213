"""Reference: what a picture adds to a UNet's cross-attention (IP-Adapter, arXiv:2308.06721), row by row.

Knows networks, rows and tensors; nothing of requests. In a call without a reference the UNet is as it was
loaded, and rows without one beside others get nothing added.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from serve_app.engine.sources import Pixels

KEPT = 8
"""Pictures whose embeddings are held: the images of an order, and often those of several, have the same."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one request is shown. Each tensor is (1, 1, width), or (1, 1, tokens, width)."""

    positive: Tensor
    negative: Tensor  # of its unconditional row
    weight: float

    def rows(self, count: int) -> list[LookRow]:
        """1 row, or 2 with guidance, the unconditional one first."""
        embeddings = [self.negative, self.positive] if count == 2 else [self.positive]
        return [(embedding, self.weight) for embedding in embeddings]


LookRow = tuple[Tensor, float] | None
"""An embedding and its weight; None: the row has no reference."""


class RowScales:
    """Stands for the scale of diffusers' processor: each row times a Python float of its own. A tensor of
    them would round in half precision."""

    def __init__(self, scales: Sequence[float]) -> None:
        self._scales = scales

    def __eq__(self, other: object) -> bool:
        return all(scale == other for scale in self._scales)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __mul__(self, rows: Tensor) -> Tensor:
        return torch.cat([s * row for s, row in zip(self._scales, rows.split(1), strict=True)])


def adapter_tensors(file: Path) -> dict[str, dict[str, Tensor]]:
    """Those of an IP-Adapter's file, by part. Raises ValueError for one that reads faces only, which takes
    another network, and for other files."""
    found: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, tensor in load_file(file).items():
        part, _, rest = key.partition(".")
        if part not in found:
            raise ValueError("no IP-Adapter")
        if not tensor.isfinite().all():
            raise ValueError("NaN")
        found[part][rest] = tensor
    if any("lora" in key for key in found["ip_adapter"]) or not all(found.values()):
        raise ValueError("of faces, or not whole")
    return found


class Reference(nn.Module):
    """The weights of an IP-Adapter, for one UNet. `tensors`: of its file, without their first names."""

    def __init__(self, unet: Any, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Raises KeyError, ValueError or RuntimeError where they do not fit."""
        super().__init__()
        made = unet._convert_ip_adapter_attn_to_diffusers([tensors], low_cpu_mem_usage=False)
        layer = unet._convert_ip_adapter_image_proj_to_diffusers(
            tensors["image_proj"], low_cpu_mem_usage=False
        )
        self.projection = MultiIPAdapterImageProjection([layer])
        self._layers: list[tuple[Any, Any]] = []  # attention, and its processor here
        self._scale: list[Any] = [1.0]  # the same for all
        processors = nn.ModuleList()
        for name, processor in made.items():
            if isinstance(processor, IPAdapterAttnProcessor2_0):
                processor.scale = self._scale
                processors.append(processor)
                self._layers.append(
                    (unet.get_submodule(name.removesuffix(".processor")), processor)
                )
        self.processors = processors
        self._reads_tokens = not isinstance(layer, ImageProjection)
        self._embedded: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    def look(
        self, pipe: Any, pixels: Pixels, key: str, weight: float, device: torch.device
    ) -> Look:
        """`pipe`: with the image encoder that belongs to it. `pixels`: (height, width, 3). `key`: equal for
        equal pixels. Call it from one thread only."""
        if key not in self._embedded:
            picture = Image.fromarray(pixels)
            positive, negative = pipe.encode_image(picture, device, 1, self._reads_tokens)
            self._embedded[key] = positive[None, :], negative[None, :]
            if len(self._embedded) > KEPT:
                self._embedded.popitem(last=False)
        self._embedded.move_to_end(key)
        return Look(*self._embedded[key], weight)

    @torch.no_grad()
    def probe(self, pipe: Any) -> None:
        """Raises RuntimeError where the image encoder has other widths."""
        side = pipe.image_encoder.config.image_size
        grey = Image.new("RGB", (side, side), "grey")
        embedding = pipe.encode_image(grey, pipe.image_encoder.device, 1, self._reads_tokens)[0]
        self.projection([embedding[None, :]])

    @contextmanager
    def on(self, texts: Tensor, looks: Sequence[LookRow]) -> Generator[Any]:
        """Within, the UNet adds what these rows show. Yields what it is called with instead of `texts`."""
        known = next(look for look in looks if look is not None)[0]
        shown = [look or (torch.zeros_like(known), 0.0) for look in looks]
        scales = [scale for _, scale in shown]
        self._scale[0] = scales[0] if len(set(scales)) == 1 else RowScales(scales)
        before = [(attention, attention.processor) for attention, _ in self._layers]
        for attention, processor in self._layers:
            attention.set_processor(processor)
        try:
            yield texts, self.projection([torch.cat([embedding for embedding, _ in shown])])
        finally:
            for attention, processor in before:
                attention.set_processor(processor)
