"""Tiling: within its context the convolutions of a network wrap around, so that what it draws repeats.

Knows networks of diffusers; nothing of requests. Padding is circular along x, y or both instead of zeros.
Outside the context the network is exactly as it was loaded. Attention and normalisation need no change: they
treat all places alike. Rolling the noise then rolls the picture, seams included; that is how it is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

AXES = {"x": "x", "y": "y", "both": "xy"}


class Tiling:
    """Of one network. Only one thread may call the network while a context is open."""

    def __init__(self, network: nn.Module) -> None:
        self._convolutions = [
            m for m in network.modules() if isinstance(m, nn.Conv2d) and max(_padding(m)) > 0
        ]
        # The encoder of a VAE pads by itself, at the right and at the bottom only.
        self._samplers = [
            m for m in network.modules() if isinstance(m, Downsample2D) and m.padding == 0
        ]

    @contextmanager
    def along(self, tile: str) -> Generator[None]:
        """`tile`: none, x, y or both."""
        if tile == "none":
            yield
            return
        axes = AXES[tile]
        for conv in self._convolutions:
            _replace(conv, "_conv_forward", partial(_convolve, conv, axes))
        for sampler in self._samplers:
            _replace(sampler, "forward", partial(_downsample, sampler, axes))
        try:
            yield
        finally:
            for conv in self._convolutions:
                del conv._conv_forward
            for sampler in self._samplers:
                del sampler.forward


def _replace(module: nn.Module, method: str, function: Callable[..., Any]) -> None:
    """For this object; deleting the attribute brings the method of its class back."""
    object.__setattr__(module, method, function)


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    """Rows above and below, columns left and right."""
    if isinstance(conv.padding, str):
        return 0, 0
    height, width = conv.padding
    return height, width


def _convolve(conv: nn.Conv2d, axes: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    height, width = _padding(conv)
    wrapped = (*(width if "x" in axes else 0,) * 2, *(height if "y" in axes else 0,) * 2)
    zeros = (0 if "y" in axes else height, 0 if "x" in axes else width)
    x = pad(x, wrapped, mode="circular")
    return conv2d(x, weight, bias, conv.stride, zeros, conv.dilation, conv.groups)


def _downsample(sampler: Downsample2D, axes: str, x: Tensor, *_: Any, **__: Any) -> Tensor:
    if "x" in axes:
        x = pad(x, (0, 1, 0, 0), mode="circular")
    if "y" in axes:
        x = pad(x, (0, 0, 0, 1), mode="circular")
    zeros = (0, 0 if "x" in axes else 1, 0, 0 if "y" in axes else 1)
    conv: Any = sampler.conv
    return conv(pad(x, zeros))
