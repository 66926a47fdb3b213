"""SharedUnet: one UNet call over the rows of many requests, eager or compiled.

Knows tensors and row counts; nothing of requests, guidance or schedulers. Compiled code exists per row
count, so rows are then padded up to the next bucket and the padding's results are dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

ROW_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(slots=True)
class Rows:
    """Inputs of one call; every list has one entry per row, each tensor a first dimension of 1."""

    samples: list[Tensor] = field(default_factory=list[Tensor])  # (1, channels, h, w)
    timesteps: list[Tensor] = field(default_factory=list[Tensor])  # 0-d
    texts: list[Tensor] = field(default_factory=list[Tensor])  # (1, tokens, width)
    conditions: list[dict[str, Tensor]] = field(default_factory=list[dict[str, Tensor]])
    guidance: list[Tensor] = field(default_factory=list[Tensor])  # (1, width), or empty


class SharedUnet:
    """`network` is what is called. `padded`: rows are rounded up to a bucket."""

    def __init__(self, network: Callable[..., Any], device: torch.device) -> None:
        self.network = network
        self.device = device
        self.padded = False

    def __call__(self, rows: Rows) -> Tensor:
        """Noise predictions (rows, channels, h, w); each row has its own timestep and text."""
        network, padded = self.network, self.padded
        count = len(rows.samples)
        padding = next((n for n in ROW_BUCKETS if n >= count), count) - count if padded else 0

        def pack(parts: list[Tensor]) -> Tensor:
            return torch.cat([*parts, *parts[-1:] * padding])

        # Float timesteps give the very bits that the pipeline's integers give.
        timesteps = torch.stack([*rows.timesteps, *rows.timesteps[-1:] * padding]).float()
        conditions = rows.conditions
        added = {name: pack([c[name] for c in conditions]) for name in conditions[0]}
        noise = network(
            pack(rows.samples).to(rows.texts[0].dtype),
            timesteps.to(self.device, non_blocking=True),
            encoder_hidden_states=pack(rows.texts),
            timestep_cond=pack(rows.guidance) if rows.guidance else None,
            added_cond_kwargs=added or None,
            return_dict=False,
        )[0]
        return noise[:count]

    # ---- compiled ----

    def compiled(self, backend: str = "inductor") -> SharedUnet:
        """The same network as one graph per bucket, made at the first call of each."""
        torch._dynamo.config.recompile_limit = 8 * len(ROW_BUCKETS)  # one per size and bucket
        network: Any = torch.compile(self.network, fullgraph=True, dynamic=False, backend=backend)
        unet = SharedUnet(network, self.device)
        unet.padded = True
        return unet

    def become(self, other: SharedUnet) -> None:
        """From the next call on."""
        self.padded, self.network = other.padded, other.network

    def compile_beside(
        self, calls: Callable[[SharedUnet], Iterable[Callable[[], Any]]], backend: str = "inductor"
    ) -> threading.Thread:
        """Serve eagerly while a thread makes the compiled code, by running `calls(compiled)` once.

        Code that cannot be made leaves the eager network in place, and says so in the log.
        """

        def compile_all() -> None:
            try:
                unet = self.compiled(backend)
                for call in calls(unet):
                    call()
            except Exception:
                log.exception("the UNet could not be compiled; it stays eager")
            else:
                self.become(unet)
                log.info("the compiled UNet serves from now on")

        thread = threading.Thread(target=compile_all, name="compile", daemon=True)
        thread.start()
        return thread
