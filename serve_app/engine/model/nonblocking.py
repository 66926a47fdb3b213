"""nonblocking(): host code goes on while a GPU works, where diffusers would wait for it.

Knows torch functions; nothing of models. A copy from ordinary host memory to a GPU waits until everything
queued there has run. diffusers makes such copies of each prompt's tokens, and its schedulers of noise and
sigmas, some at every step. UniPC also solves equations, and torch waits to learn whether they were singular.
`tests/engine/model/test_nonblocking.py` shows that nothing else waits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def nonblocking(device: torch.device) -> AbstractContextManager[Any]:
    """Within this context, in this thread, copies to the device are queued from pinned memory, and
    `linalg.solve` skips its synchronising error check; a singular system shows later as NaN, which decoding
    reports as NonFinite. All values stay the same."""
    return nullcontext() if device.type == "cpu" else _Nonblocking()


class _Nonblocking(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.to and args[0].device.type == "cpu":
            # The parser that `torch.nn.Module.to` uses for the same arguments.
            parse: Any = torch._C._nn._parse_to  # pyright: ignore[reportAttributeAccessIssue]
            device, dtype, *_ = parse(*args[1:], **kwargs)
            if device is not None and device.type != "cpu":
                values = args[0] if dtype is None else args[0].to(dtype)
                return values.pin_memory().to(device, non_blocking=True)
        if func is torch.linalg.solve:
            return torch.linalg.solve_ex(*args, **kwargs).result
        return func(*args, **kwargs)
