"""One picture over another, both with straight alpha.

Knows nothing of effects.
"""

from __future__ import annotations

import numpy as np

from serve_app.finishing.picture import Pixels


def over(top: Pixels, bottom: Pixels) -> Pixels:
    """`top` over `bottom`, of equal size. Opaque pixels of `top` come out unchanged."""
    a = top[..., 3:].astype(np.float32) / 255
    b = bottom[..., 3:].astype(np.float32) / 255 * (1 - a)
    alpha = a + b
    color = (top[..., :3] * a + bottom[..., :3] * b) / np.maximum(alpha, 1e-6)
    result = np.empty_like(top)
    result[..., :3] = np.round(color)
    result[..., 3:] = np.round(alpha * 255)
    return result
