"""A device that is not there: its tensors have their values on the host, and every wait for it is noted.

What it shares with a GPU: no operation takes tensors of both sides (but a single number), and the host
waits when it reads a value, when it copies ordinary memory, and when an operation reports back.
Inference mode knows no such tensors, so model runners are called below it (`functools.wraps` kept them).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")  # torch knows it, and needs no driver for it
READS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "_linalg_check_errors")


class Elsewhere(Tensor):
    """A tensor that says it is on `DEVICE`."""

    here: Tensor

    @staticmethod
    def __new__(cls: type[Elsewhere], here: Tensor) -> Elsewhere:
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        self.here = here
        return self

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})[0]


class Waits(TorchDispatchMode):
    """`found`: what the host has waited for in here, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, waits = run(func, args, kwargs or {})
        self.found += waits
        return out


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, list[str]]:
    """Do it here. Returns its result, elsewhere if that is where it belongs, and what it waited for."""
    name = func.overloadpacket.__name__
    inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    remote = [x for x in inputs if isinstance(x, Elsewhere)]
    if name == "_pin_memory":
        pinned = args[0].clone()
        pinned.was_pinned = True
        return pinned, []
    asked = kwargs.get("device")
    goes_there = bool(remote) if asked is None else torch.device(asked).type == DEVICE.type
    waits: list[str] = []
    if remote and name in READS:
        waits.append(f"{name} reads a value")
        goes_there = False
    elif name == "_to_copy":
        # torch pins by itself what a queued copy to the host is written to.
        queued = kwargs.get("non_blocking") and (remote or hasattr(args[0], "was_pinned"))
        if goes_there != bool(remote) and not queued:
            waits.append(f"a copy of {tuple(inputs[0].shape)}")
    elif remote:
        strangers = [x for x in inputs if not isinstance(x, Elsewhere) and x.dim()]
        assert not strangers, f"{name} of tensors on both sides"
    args, kwargs = tree_map_only(Elsewhere, lambda x: x.here, (args, kwargs))
    out = func(*args, **(kwargs if asked is None else {**kwargs, "device": "cpu"}))
    if not goes_there:
        return out, waits
    same = {id(x.here): x for x in remote}  # of operations in place
    return tree_map_only(
        Tensor, lambda x: same[id(x)] if id(x) in same else Elsewhere(x), out
    ), waits


def move(module: nn.Module) -> None:
    """All of its weights."""
    for part in module.modules():
        stores: Any = (part._parameters, part._buffers)
        for weights in stores:
            for name, values in weights.items():
                if values is not None:
                    weights[name] = Elsewhere(values.data)
