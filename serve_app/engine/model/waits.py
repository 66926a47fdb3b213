"""What diffusers lets the host wait for, and need not.

A copy from ordinary host memory to a GPU waits until all that is queued there has run. diffusers makes one
of each prompt's tokens, and its schedulers of noise and sigmas, some at every step; and UniPC asks a GPU
whether its equations could be solved. `tests/engine/model/test_waits.py` shows that nothing else waits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def no_waits(device: torch.device) -> AbstractContextManager[Any]:
    """In here, and in this thread, copies to the device are queued behind what it has to do, from pinned
    memory, and nobody asks whether equations could be solved: if not, the image is not finite, as decoding
    says. Same values."""
    return nullcontext() if device.type == "cpu" else _NoWaits()


class _NoWaits(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.to and args[0].device.type == "cpu":
            # What `torch.nn.Module.to` reads its arguments with.
            parse: Any = torch._C._nn._parse_to  # pyright: ignore[reportAttributeAccessIssue]
            device, dtype, *_ = parse(*args[1:], **kwargs)
            if device is not None and device.type != "cpu":
                values = args[0] if dtype is None else args[0].to(dtype)
                return values.pin_memory().to(device, non_blocking=True)
        if func is torch.linalg.solve:
            return torch.linalg.solve_ex(*args, **kwargs).result
        return func(*args, **kwargs)
