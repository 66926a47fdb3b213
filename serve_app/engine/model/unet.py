"""SharedUnet: one UNet call over the rows of many requests, eager or compiled.

Knows tensors and row counts; nothing of requests, guidance or schedulers. Compiled code exists per size
and row count: rows are padded up to the next count that has some and the padding's results are dropped;
what has none runs eagerly, for to compile it in the loop would hold everybody up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from serve_app.engine.model.waits import no_waits

log = logging.getLogger(__name__)

ROW_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of rows that code is made for."""
MOST_GRAPHS = 64
Shape = tuple[int, int, int]  # latent height and width, rows


@dataclass(slots=True)
class Rows:
    """Inputs of one call; every list has one entry per row, each tensor a first dimension of 1."""

    samples: list[Tensor] = field(default_factory=list[Tensor])  # (1, channels, h, w)
    timesteps: list[Tensor] = field(default_factory=list[Tensor])  # 0-d
    texts: list[Tensor] = field(default_factory=list[Tensor])  # (1, tokens, width)
    conditions: list[dict[str, Tensor]] = field(default_factory=list[dict[str, Tensor]])
    guidance: list[Tensor] = field(default_factory=list[Tensor])  # (1, width), or empty


class SharedUnet:
    """`network` is what is called, until there is compiled code for a size; then that is."""

    def __init__(self, network: Callable[..., Any], device: torch.device) -> None:
        self.network = network
        self.device = device
        self.fast: Callable[..., Any] | None = None
        self.shapes: set[Shape] = set()  # what `fast` exists for

    @property
    def padded(self) -> bool:
        return self.fast is not None

    def __call__(self, rows: Rows) -> Tensor:
        """Noise predictions (rows, channels, h, w); each row has its own timestep and text."""
        count, size = len(rows.samples), _size(rows)
        made = [n for *of, n in self.shapes if n >= count and tuple(of) == size]
        if self.fast is not None and made:
            return self._call(self.fast, rows, min(made) - count)[:count]
        return self._call(self.network, rows, 0)

    def _call(self, network: Callable[..., Any], rows: Rows, padding: int) -> Tensor:
        def pack(parts: list[Tensor]) -> Tensor:
            return torch.cat([*parts, *parts[-1:] * padding])

        # Float timesteps give the very bits that the pipeline's integers give.
        timesteps = torch.stack([*rows.timesteps, *rows.timesteps[-1:] * padding]).float()
        with no_waits(self.device):
            timesteps = timesteps.to(self.device)
        conditions = rows.conditions
        added = {name: pack([c[name] for c in conditions]) for name in conditions[0]}
        return network(
            pack(rows.samples).to(rows.texts[0].dtype),
            timesteps,
            encoder_hidden_states=pack(rows.texts),
            timestep_cond=pack(rows.guidance) if rows.guidance else None,
            added_cond_kwargs=added or None,
            return_dict=False,
        )[0]

    # ---- compiled ----

    def compiled(self, backend: str = "inductor") -> SharedUnet:
        """The same network; `make` gives it code for a shape, one graph each."""
        unet = SharedUnet(self.network, self.device)
        compile_network: Any = torch.compile  # its types know neither this argument nor a callable
        unet.fast = compile_network(
            self.network,
            fullgraph=True,
            dynamic=False,
            backend=backend,
            recompile_limit=MOST_GRAPHS,  # a setting of torch's own would hold in one thread only
        )
        return unet

    def make(self, rows: Rows) -> None:
        """Compile for the size and number of these rows."""
        assert self.fast is not None
        self._call(self.fast, rows, 0)
        self.shapes.add((*_size(rows), len(rows.samples)))

    def become(self, other: SharedUnet) -> None:
        """From the next call on."""
        self.shapes = other.shapes
        self.fast = other.fast

    def compile_beside(
        self, make_all: Callable[[SharedUnet], None], backend: str = "inductor"
    ) -> threading.Thread:
        """Serve eagerly while a thread makes the compiled code with `make_all(compiled)`.

        Code that cannot be made leaves the eager network in place, and says so in the log.
        """

        def compile_all() -> None:
            try:
                unet = self.compiled(backend)
                make_all(unet)
            except Exception:
                log.exception("the UNet could not be compiled; it stays eager")
            else:
                self.become(unet)
                log.info("the compiled UNet serves from now on")

        thread = threading.Thread(target=compile_all, name="compile", daemon=True)
        thread.start()
        return thread


def _size(rows: Rows) -> tuple[int, int]:
    height, width = rows.samples[0].shape[-2:]
    return height, width
