"""HostedWeights: the weights of a model's networks, kept on the host and copied to the device for its turns.

Knows modules and memory; nothing of requests or turns. Weights are only read, so to take them off the device
costs nothing: the copy on the host is the one that counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from serve_app.engine.model.device import device_errors, synchronize
from serve_app.errors import ModelError

CHUNK = 2**28
"""Bytes of the host's memory in one piece. Weights lie one after another in it, so that a switch is a few
large copies. A power of two, because torch rounds pinned memory up to one."""
ALIGNED = 512  # bytes, as CUDA's own allocator aligns


@dataclass(frozen=True, slots=True)
class Place:
    """Where a weight lies. Weights that share their memory share a place."""

    chunk: int
    offset: int  # bytes


class HostedWeights:
    """Moves what `networks` have on any device into the memory of the host, pinned where `device` is a GPU.
    While they are there, their networks cannot be called, unless that is the device."""

    def __init__(self, networks: Iterable[nn.Module], device: torch.device) -> None:
        self._device = device
        self._weights = _weights_of(networks)
        self._places: dict[tuple[int, int], Place] = {}  # by the weight's own memory and its bytes
        self._chunks: list[Tensor] = []
        self._at: list[tuple[Tensor, Place]] = []
        self.size_bytes = 0
        self.left: Callable[[], object] = lambda: None  # called when they have left
        self._there = False
        self._pack()

    def bring(self) -> float:
        """Returns the seconds that it took; 0: they were there. Raises OutOfMemory; then they are not."""
        if self._there:
            return 0.0
        began = time.perf_counter()
        with device_errors():
            there = [self._copied(chunk) for chunk in self._chunks]
            synchronize(self._device)
        self._look_at(there)
        self._there = True
        return time.perf_counter() - began

    def leave(self) -> None:
        """Calls that are queued on the device still find them: their memory is given away after those."""
        self._look_at(self._chunks)
        self._there = False
        self.left()

    def _copied(self, chunk: Tensor) -> Tensor:
        if self._device.type == "cpu":
            return chunk.clone()
        return chunk.to(self._device, non_blocking=True)

    def _look_at(self, chunks: list[Tensor]) -> None:
        with torch.no_grad():
            for weight, place in self._at:
                weight.data = _view(chunks[place.chunk], place.offset, weight)

    def _pack(self) -> None:
        sizes: list[int] = []  # of the chunks, as far as they are filled
        for weight in self._weights:
            length = _span(weight)
            key = weight.data_ptr(), length
            if key not in self._places:
                if not sizes or sizes[-1] + length > CHUNK:
                    sizes.append(0)
                self._places[key] = Place(len(sizes) - 1, sizes[-1])
                sizes[-1] += -(-length // ALIGNED) * ALIGNED
            self._at.append((weight, self._places[key]))
        pinned = self._device.type == "cuda"
        self._chunks = [torch.empty(size, dtype=torch.uint8, pin_memory=pinned) for size in sizes]
        self.size_bytes = sum(sizes)
        with torch.no_grad():
            for weight, place in self._at:
                here = _view(self._chunks[place.chunk], place.offset, weight)
                here.copy_(weight)
                weight.data = here


def _weights_of(networks: Iterable[nn.Module]) -> list[Tensor]:
    """Parameters and buffers, each once. Raises ModelError for one with gaps in its memory, which loading
    never makes."""
    found: dict[int, Tensor] = {}
    for network in networks:
        for weight in (*network.parameters(), *network.buffers()):
            if weight.numel() and _span(weight) != weight.numel() * weight.itemsize:
                raise ModelError(f"a weight of shape {tuple(weight.shape)} has gaps")
            found[id(weight)] = weight
    return list(found.values())


def _span(weight: Tensor) -> int:
    """Bytes from its first to its last element."""
    if not weight.numel():
        return 0
    last = sum((n - 1) * step for n, step in zip(weight.shape, weight.stride(), strict=True))
    return (last + 1) * weight.itemsize


def _view(chunk: Tensor, offset: int, like: Tensor) -> Tensor:
    """With the type, the shape and the strides of `like`: strides decide which kernel a convolution takes."""
    piece = chunk[offset : offset + _span(like)].view(like.dtype)
    return piece.as_strided(like.shape, like.stride(), piece.storage_offset())
