"""A Gaussian blur of numbers that are not bytes, where eight bits would leave steps.

Knows nothing of pictures.
"""

from __future__ import annotations

import numpy as np

from serve_app.finishing.picture import Floats


def blurred(values: Floats, sigma: float) -> Floats:
    """Along the first two axes, cut at three standard deviations; edges go on as they end."""
    if not sigma:
        return values
    reach = max(1, round(3 * sigma))
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma * sigma))
    bell = (bell / bell.sum()).astype(np.float32)
    for _ in range(2):  # rows, then columns
        padding = [(reach, reach)] + [(0, 0)] * (values.ndim - 1)
        around = np.pad(values, padding, mode="edge")
        result = np.zeros(values.shape, np.float32)
        for i, weight in enumerate(bell):
            result += weight * around[i : i + len(values)]
        values = result.swapaxes(0, 1)
    return values
