"""One CUDA graph of a training step: thousands of small kernels started by one call.

It does not know what the step computes. Before it, the processor could not start them fast enough.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch

WARM_UPS = 3  # steps before the capture, so that every optimiser has its state
AHEAD = 4  # steps that the processor may be ahead, so that its clock says how far the device is


class Captured:
    """Calls `step` with tensors of always the same shapes; captured at the first call.

    What `step` returns is overwritten by the next call.
    """

    def __init__(self, step: Callable[..., torch.Tensor]) -> None:
        self.step = step
        self.graph: torch.cuda.CUDAGraph | None = None
        self.held: list[torch.Tensor] = []
        self.result: torch.Tensor | None = None
        self.behind: deque[torch.cuda.Event] = deque()
        self.side = torch.cuda.Stream()
        self.side.wait_stream(torch.cuda.current_stream())

    @contextmanager
    def beside(self) -> Generator[None]:
        """What is computed inside runs beside the last step; the next one waits for it."""
        with torch.cuda.stream(self.side):
            yield
        torch.cuda.current_stream().wait_stream(self.side)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        if self.graph is None:
            self.held = [tensor.clone() for tensor in inputs]
            self._capture()
        for mine, given in zip(self.held, inputs, strict=True):
            mine.copy_(given)
            given.record_stream(torch.cuda.current_stream())
        assert self.graph is not None
        assert self.result is not None
        self.graph.replay()
        self.behind.append(torch.cuda.Event())
        self.behind[-1].record()
        if len(self.behind) > AHEAD:
            self.behind.popleft().synchronize()
        return self.result

    def _capture(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.step(*self.held)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = self.step(*self.held)
