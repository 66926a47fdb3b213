"""What to ask of a device: how much memory is free, whether it is idle, and its errors as RenderErrors.

Knows torch; nothing of models or requests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import torch

from serve_app.engine.runner import DeviceLost
from serve_app.errors import OutOfMemory, RenderError

T = TypeVar("T")


class SideStream:
    """A queue of the device beside the one of the model calls: what runs in it does not wait for them."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def later(self, made: torch.Tensor, work: Callable[[], T]) -> Callable[[], T]:
        """`work` reads `made`, which is queued already. Call what this returns in any thread: it waits for
        `made` and for `work`, and for nothing that is queued after this call."""
        stream = self._stream
        if stream is None:
            return work
        ready = torch.cuda.Event()
        ready.record()

        def run() -> T:
            with torch.cuda.stream(stream):
                stream.wait_event(ready)
                made.record_stream(stream)  # its memory must not be given away meanwhile
                return work()

        return run


def free_memory(device: torch.device) -> int:
    """Bytes; for a CPU all memory of the host."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def synchronize(device: torch.device) -> None:
    """Wait until everything that was queued on the device has run."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def device_errors() -> Generator[None]:
    """Errors of a whole call: raises OutOfMemory and DeviceLost for what torch raises; others pass."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemory() from error
    except torch.AcceleratorError as error:
        raise DeviceLost() from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # the CPU allocator raises no type of its own
            raise OutOfMemory() from error
        raise


def as_render_error(error: Exception) -> RenderError:
    """The error of one request, without the text of the original: that could show a prompt."""
    if isinstance(error, RenderError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return OutOfMemory()
    if isinstance(error, torch.AcceleratorError):
        return DeviceLost()
    return RenderError(f"{type(error).__name__} in the model")
