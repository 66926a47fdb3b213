"""SourcePixels: the picture that an order is drawn from, and which part of it is drawn anew.

Knows files and pixels; no torch, nothing of where the files lie.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

FORMATS = ["PNG", "WEBP"]
HALF = 128
"""Of a mask: from this level on a pixel is drawn anew."""


@dataclass(frozen=True, eq=False)
class SourcePixels:
    """`picture`: (height, width, 3); None: it starts from noise alone. `mask`: (height, width), true where it
    is drawn anew; None: all of it may change. `controls`: what ControlNets read, each as a picture.
    `reference`: what it takes after, in its own size."""

    picture: Pixels | None
    mask: Mask | None = None
    controls: tuple[Pixels, ...] = ()
    reference: Pixels | None = None


def source_pixels(
    picture: bytes | None,
    mask: bytes | None,
    size: tuple[int, int],
    controls: Sequence[tuple[bytes, Callable[[Pixels], Pixels]]] = (),
    reference: bytes | None = None,
) -> SourcePixels:
    """From PNG or WebP files to pixels of `size` (width, height).

    A file of another size is scaled (Lanczos) until it covers that size, and what is over is cut off on both
    sides alike. Transparent parts of the picture are laid on white. `controls`: each with what prepares it.
    """

    def pixels(data: bytes) -> Pixels:
        return np.asarray(_on_white(_opened(data, size)))

    return SourcePixels(
        None if picture is None else pixels(picture),
        None if mask is None else _drawn_anew(_opened(mask, size)),
        tuple(prepare(pixels(data)) for data, prepare in controls),
        None if reference is None else np.asarray(_on_white(_opened(reference))),
    )


def _opened(data: bytes, size: tuple[int, int] | None = None) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        wanted = "RGBA" if image.has_transparency_data else "RGB"
        pixels = image.convert(wanted)
    return pixels if size is None else ImageOps.fit(pixels, size, Image.Resampling.LANCZOS)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image)
    return ground.convert("RGB")


def _drawn_anew(image: Image.Image) -> Mask:
    """Where a mask is transparent, if any of it is; else where it is white."""
    if image.mode == "RGBA":
        alpha = np.asarray(image.getchannel("A"))
        if (alpha < 255).any():
            return alpha < HALF
    return np.asarray(image.convert("L")) >= HALF
