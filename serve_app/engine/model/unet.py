"""SharedUnet: one UNet call over the rows of many requests, eager or compiled.

Knows tensors and row counts; nothing of requests, guidance or schedulers. Compiled code exists per image
size and row count. Rows are padded to the next compiled count and the padding's results are dropped. A size
without compiled code runs eagerly: compiling it during a call would hold up every request.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from serve_app.engine.model.nonblocking import nonblocking

log = logging.getLogger("assets.engine")

ROW_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Row counts to compile for."""
MAX_GRAPHS = 64  # compiled shapes per network
Shape = tuple[int, int, int]  # latent height and width, rows


@dataclass(slots=True)
class Rows:
    """Inputs of one call: one entry per row in every list, each tensor with a first dimension of 1."""

    samples: list[Tensor] = field(default_factory=list[Tensor])  # (1, channels, h, w)
    timesteps: list[Tensor] = field(default_factory=list[Tensor])  # 0-d
    texts: list[Tensor] = field(default_factory=list[Tensor])  # (1, tokens, width)
    conditions: list[dict[str, Tensor]] = field(default_factory=list[dict[str, Tensor]])
    guidance: list[Tensor] = field(default_factory=list[Tensor])  # (1, width), or empty


class SharedUnet:
    """Calls compiled code where it exists for the size, else `network`, which is the diffusers UNet."""

    def __init__(self, network: Callable[..., Any], device: torch.device) -> None:
        self.network = network
        self.device = device
        self.fast: Callable[..., Any] | None = None  # the compiled network
        self.shapes: set[Shape] = set()  # what `fast` has been compiled for

    @property
    def padded(self) -> bool:
        """Whether row counts are padded, which happens once there is compiled code."""
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

        # As floats they give bit-equal results to the pipeline's integers.
        timesteps = torch.stack([*rows.timesteps, *rows.timesteps[-1:] * padding]).float()
        with nonblocking(self.device):
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
        """The same network with a compiler; `compile_for` compiles one shape, as one graph."""
        unet = SharedUnet(self.network, self.device)
        compile_network: Any = torch.compile  # its types lack `recompile_limit`, and callables
        unet.fast = compile_network(
            self.network,
            fullgraph=True,
            dynamic=False,
            backend=backend,
            recompile_limit=MAX_GRAPHS,  # torch's global setting holds in one thread only
        )
        return unet

    def compile_for(self, rows: Rows) -> None:
        """Compile for the size and number of these rows."""
        assert self.fast is not None
        self._call(self.fast, rows, 0)
        self.shapes.add((*_size(rows), len(rows.samples)))

    def become(self, other: SharedUnet) -> None:
        """Use the compiled code of `other` from the next call on."""
        self.shapes = other.shapes
        self.fast = other.fast

    def compile_beside(
        self, compile_all: Callable[[SharedUnet], None], backend: str = "inductor"
    ) -> threading.Thread:
        """Keep serving eagerly while a thread compiles: `compile_all(unet)` compiles all shapes.

        If compiling fails, the eager network stays and the log says so.
        """

        def compile_and_switch() -> None:
            try:
                unet = self.compiled(backend)
                compile_all(unet)
            except Exception:
                log.exception("the UNet could not be compiled; it stays eager")
            else:
                self.become(unet)
                log.info("the compiled UNet serves from now on")

        thread = threading.Thread(target=compile_and_switch, name="compile", daemon=True)
        thread.start()
        return thread


def _size(rows: Rows) -> tuple[int, int]:
    height, width = rows.samples[0].shape[-2:]
    return height, width
