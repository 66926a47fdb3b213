"""Errors of torch become RenderErrors that the engine can act on."""

from __future__ import annotations

import pytest
import torch

from serve_app.engine.model.device import as_render_error, device_errors, free_memory
from serve_app.engine.runner import DeviceLost
from serve_app.errors import NonFinite, OutOfMemory, RenderError


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (torch.OutOfMemoryError("2 GiB more"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 2 GiB"), OutOfMemory),
        (torch.AcceleratorError("CUDA error: an illegal memory access"), DeviceLost),
        (RuntimeError("shapes do not match"), RuntimeError),
        (ValueError("no such thing"), ValueError),
    ],
)
def test_the_error_of_a_call_says_what_to_do(raised: Exception, becomes: type[Exception]) -> None:
    """Make smaller calls, or end the engine. Other errors stay as they are."""
    with pytest.raises(becomes) as caught, device_errors():
        raise raised
    assert type(caught.value) is becomes


def test_an_allocation_that_is_too_large_for_this_host_is_out_of_memory() -> None:
    """As torch itself raises it."""
    with pytest.raises(OutOfMemory), device_errors():
        torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (NonFinite(), NonFinite),
        (torch.OutOfMemoryError("a prompt"), OutOfMemory),
        (torch.AcceleratorError("a prompt"), DeviceLost),
        (ValueError("a prompt"), RenderError),
    ],
)
def test_the_error_of_one_request_shows_no_text_of_the_original(
    raised: Exception, becomes: type[RenderError]
) -> None:
    """That text could contain a prompt of another job."""
    error = as_render_error(raised)
    assert type(error) is becomes
    assert "a prompt" not in error.detail


def test_a_cpu_has_the_memory_of_its_host() -> None:
    """In bytes: more than a tensor that can be made here."""
    assert free_memory(torch.device("cpu")) > torch.empty(2**20).nbytes
