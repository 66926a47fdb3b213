"""A matting network: an ONNX file that gives a mask for a picture (IS-Net and its like).

Knows nothing of effects. Needs the extra `matting` (onnxruntime); the weights come from a path in the
server's configuration and are never fetched.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve_app.finishing.masks import nearest
from serve_app.finishing.matte import unmix
from serve_app.finishing.picture import EffectFailed, Floats, Pixels

_CLEAR, _SOLID = 0.05, 0.95  # masks of networks seldom reach 0 and 1
_REACH = 16  # pixels in which a mixed pixel finds pure ones


def cut(rgb: NDArray[np.uint8], weights: Path) -> Pixels:
    """Straight-alpha pixels. Raises EffectFailed where the extra or the file is missing or unfit."""
    alpha = mask(rgb, weights)
    alpha = np.clip((alpha - _CLEAR) / (_SOLID - _CLEAR), 0, 1)
    pixels = np.dstack([rgb, np.round(alpha * 255).astype(np.uint8)])
    mixed = (alpha > 0) & (alpha < 1)
    if mixed.any() and (alpha == 1).any() and (alpha == 0).any():
        seen = rgb[mixed].astype(np.float32)
        own = _nearest_color(rgb, alpha == 1, mixed)
        behind = _nearest_color(rgb, alpha == 0, mixed)
        pixels[mixed, :3] = np.round(unmix(seen, alpha[mixed], own, behind))
    return pixels


def mask(rgb: NDArray[np.uint8], weights: Path) -> Floats:
    """H x W, 0 to 1, as the network gives it. Input 1 x 3 x S x S in -0.5..0.5; the first output counts."""
    session = _session(weights, weights.stat().st_mtime_ns if weights.exists() else 0)
    entry = session.get_inputs()[0]
    side = entry.shape[2] if isinstance(entry.shape[2], int) else 1024
    small = Image.fromarray(np.ascontiguousarray(rgb)).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    fed = (np.asarray(small, np.float32) / 255 - 0.5).transpose(2, 0, 1)[None]
    out = np.squeeze(session.run(None, {entry.name: fed})[0]).astype(np.float32)
    if out.shape != (side, side) or not np.isfinite(out).all():
        raise EffectFailed("the matting network gave no mask of its input's size")
    low, high = float(out.min()), float(out.max())
    if low < 0 or high > 1:  # some exports end before the last sigmoid
        out = (out - low) / (high - low)
    height, width = rgb.shape[:2]
    large = Image.fromarray(out).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(large, np.float32)


def _nearest_color(
    rgb: NDArray[np.uint8], pure: NDArray[np.bool_], mixed: NDArray[np.bool_]
) -> Floats:
    """Of each mixed pixel; its own where no pure one is in reach."""
    index = nearest(pure, _REACH)[1][mixed]
    found = rgb.reshape(-1, 3)[index].astype(np.float32)
    return np.where((index >= 0)[:, None], found, rgb[mixed].astype(np.float32))


@lru_cache(maxsize=1)
def _session(weights: Path, changed: int) -> Any:
    """Loading takes longer than running, so the last network is kept; `changed` tells a new file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EffectFailed("cutout: install the extra `matting` to use a network") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one job is one core; sums in one order give equal bytes
    try:
        return onnxruntime.InferenceSession(
            str(weights), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has one class per status, and none of them public
        raise EffectFailed(
            f"cutout: the matting network cannot be loaded ({type(error).__name__})"
        ) from error
