"""A pretended GPU: its tensors keep their values on the host, and every wait of the host for it is recorded.

As with a GPU, an operation takes tensors of one device only (apart from single numbers), and the host waits
when it reads a value, copies from ordinary memory, or calls an operation that checks for errors. Inference
mode does not support such tensors, so tests call a model runner's methods without their decorator.
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
    """A tensor on `DEVICE`, whose values are in `here`."""

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
    """`found`: each wait of the host within this context, one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, waits = run(func, args, kwargs or {})
        self.found += waits
        return out


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, list[str]]:
    """Compute on the host. Returns the result, on `DEVICE` where it belongs there, and the waits."""
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
        # torch itself pins the memory that a queued copy to the host is written to.
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
    same = {id(x.here): x for x in remote}  # an operation in place returns its own tensor
    return tree_map_only(
        Tensor, lambda x: same[id(x)] if id(x) in same else Elsewhere(x), out
    ), waits


def move(module: nn.Module) -> None:
    """Move all of its weights to `DEVICE`."""
    for part in module.modules():
        stores: Any = (part._parameters, part._buffers)
        for weights in stores:
            for name, values in weights.items():
                if values is not None:
                    weights[name] = Elsewhere(values.data)
