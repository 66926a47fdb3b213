"""upscale: a larger picture by a learned model, with alpha scaled beside it.

Knows nothing of architectures: spandrel reads the weights and says their factor. Needs the extra
`upscale`; torch is loaded only when such an effect is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from serve_app.finishing.base import NO_WEIGHTS, ModelEffect, Weights
from serve_app.finishing.bleed import bleed
from serve_app.finishing.picture import EffectFailed, Picture
from serve_app.finishing.scale import resize

_TILE, _OVERLAP = 256, 16  # pixels; a tile's rim is drawn twice, for it lacks neighbours


class Upscale(ModelEffect):
    """Enlarge by a learned model of the server; its weights fix the factor."""

    example: ClassVar[Mapping[str, Any]] = {"op": "upscale", "model": "anime_x2"}

    op: Literal["upscale"] = "upscale"
    model: str = Field(max_length=64, description="One of the models that the server lists.")

    def apply(self, picture: Picture, weights: Weights = NO_WEIGHTS) -> Picture:
        path = weights.upscalers.get(self.model)
        if path is None:
            known = ", ".join(sorted(weights.upscalers)) or "none is configured"
            raise EffectFailed(f"upscale: no model {self.model!r}; known: {known}")
        model = _model(path, path.stat().st_mtime_ns if path.exists() else 0)
        factor = int(model.scale)
        width, height = picture.width * factor, picture.height * factor
        picture.check_room(width, height)
        large = np.empty((height, width, 4), np.uint8)
        large[..., :3] = enlarged(bleed(picture.pixels, 16)[..., :3], model)
        large[..., 3] = 255
        if picture.has_alpha:
            large[..., 3] = resize(picture.pixels, width, height, "lanczos")[..., 3]
        return picture.scaled(large).noted(
            "upscale", f"Enlarged {factor} times by {self.model}.", factor=factor
        )


def enlarged(rgb: NDArray[np.uint8], model: Any) -> NDArray[np.uint8]:
    """H x W x 3, by tiles that overlap, so that memory does not grow with the picture."""
    import torch

    height, width = rgb.shape[:2]
    factor = int(model.scale)
    result = np.empty((height * factor, width * factor, 3), np.uint8)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            y0, x0 = max(0, top - _OVERLAP), max(0, left - _OVERLAP)
            y1, x1 = min(height, top + _TILE + _OVERLAP), min(width, left + _TILE + _OVERLAP)
            tile = rgb[y0:y1, x0:x1].transpose(2, 0, 1).copy()  # torch wants what it may write to
            with torch.inference_mode():
                drawn = model(torch.from_numpy(tile).float().div(255)[None])[0]
            large = np.round(drawn.clamp(0, 1).mul(255).permute(1, 2, 0).numpy()).astype(np.uint8)
            down, right = min(height, top + _TILE), min(width, left + _TILE)
            result[top * factor : down * factor, left * factor : right * factor] = large[
                (top - y0) * factor : (down - y0) * factor,
                (left - x0) * factor : (right - x0) * factor,
            ]
    return result


@lru_cache(maxsize=1)
def _model(path: Path, changed: int) -> Any:
    """The last model used is kept; `changed` tells a new file from an old one."""
    try:
        from spandrel import ImageModelDescriptor, ModelLoader
    except ImportError as error:
        raise EffectFailed("upscale: install the extra `upscale`") from error
    if path.suffix != ".safetensors":  # other formats can run code when they are read
        raise EffectFailed("upscale: only .safetensors weights are read")
    try:
        model = ModelLoader(device="cpu").load_from_file(path)
    except Exception as error:  # spandrel and safetensors raise many kinds
        raise EffectFailed(
            f"upscale: the weights cannot be read ({type(error).__name__})"
        ) from error
    if not isinstance(model, ImageModelDescriptor) or model.input_channels != 3:
        raise EffectFailed("upscale: these weights do not enlarge RGB pictures")
    return model.eval()
