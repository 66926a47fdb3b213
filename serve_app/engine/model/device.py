"""A device beside its model calls: how much memory is free, when it is idle, its errors as RenderErrors.

Knows torch; nothing of models or requests.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch

from serve_app.engine.runner import DeviceLost
from serve_app.errors import OutOfMemory, RenderError


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
