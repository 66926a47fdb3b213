"""Placement: which parts of a model are on the device, where it has not the memory for all of them.

Knows networks and devices; nothing of requests. Only one group is there at a time, and the others wait in the
host's memory. A thread that needs another group waits until nobody works with the one that is there.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from serve_app.catalog.families import FAMILIES
from serve_app.catalog.models import ModelSpec
from serve_app.errors import ModelError

GIB = 2**30
HOST = torch.device("cpu")


class Placement:
    """`groups`: networks by name. Without any they are all where they are used, and nothing is moved."""

    def __init__(self, groups: Mapping[str, Sequence[Any]], device: torch.device) -> None:
        self._groups, self._device = groups, device
        self._there: str | None = None
        self._free = threading.Lock()

    @contextmanager
    def on(self, name: str) -> Generator[None]:
        """Within this context the networks of this group are on the device."""
        if not self._groups:
            yield
            return
        with self._free:
            if self._there != name:
                if self._there is not None:
                    self._move(self._there, HOST)
                self._there = None  # should the next move run out of memory
                try:
                    self._move(name, self._device)
                except BaseException:
                    self._move(name, HOST)  # what of it has come
                    raise
                self._there = name
            yield

    def _move(self, name: str, device: torch.device) -> None:
        for network in self._groups[name]:
            network.to(device)


def placement_of(spec: ModelSpec, pipe: Any, device: torch.device, controls: Any = ()) -> Placement:
    """`controls`: networks that are called with the model's own. The VAE is small, and stays where it is."""
    if spec.cpu_offload is None:
        return Placement({}, device)
    parts = [getattr(pipe, part) for part in FAMILIES[spec.family].networks if part != "vae"]
    texts = [part for part in parts[1:] if part is not None]
    return Placement({"text": texts, "network": [parts[0], *controls]}, device)


def check_memory(spec: ModelSpec, free: int, itemsize: int) -> None:
    """Raises ModelError where the spec needs more than is free. `free`: bytes. `itemsize`: of a weight."""
    if spec.memory is None:
        return
    scale = itemsize / 2  # the spec speaks of weights of 16 bits
    whole, offloaded = spec.memory.whole * scale, spec.memory.offloaded * scale
    needed = whole if spec.cpu_offload is None else offloaded
    if needed * GIB <= free:
        return
    advice = ""
    if offloaded * GIB <= free:
        advice = f"; with `cpu_offload: model` it needs {offloaded:g} GiB, and is slower"
    raise ModelError(
        f"model {spec.name!r} needs {needed:g} GiB of the device's memory, and {free / GIB:.1f} GiB are free"
        f"{advice}"
    )
