"""Imprint: two hashes of a picture, whatever its file format: of its exact pixels, and of how it looks.

Knows pixels. Which files are alike is asked with `distance`.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIMILAR_BITS = 10
"""Two pictures whose `dhash` differ in so many bits at most may be versions of one another. Sprites that
were blurred and resized differed in 2, shifted by 4 pixels in 11, others in 17 and more."""

MAX_PIXELS = 2**26

_SIDE = 8
_GROUND = (128, 128, 128)


@dataclass(frozen=True, slots=True)
class Imprint:
    """`pixels_sha256`: of `WIDTHxHEIGHT`, a newline, and the pixels as RGBA of 8 bits, row by row. `dhash`:
    64 bits as 16 hex digits; two alike pictures differ in few of them."""

    pixels_sha256: str
    dhash: str


def imprint_of(data: bytes, max_pixels: int = MAX_PIXELS) -> Imprint:
    """Of the first frame of a picture file. Raises ValueError: it cannot be decoded, or is too large, which
    is seen before."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "WEBP", "JPEG"]) as image:
            if image.width * image.height > max_pixels:
                raise ValueError("the picture is too large")
            rgba = image.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError("the picture cannot be decoded") from error
    digest = hashlib.sha256(f"{rgba.width}x{rgba.height}\n".encode())
    digest.update(rgba.tobytes())
    return Imprint(digest.hexdigest(), _dhash(rgba))


def _dhash(rgba: Image.Image) -> str:
    """Whether brightness rises between neighbours of a 9x8 copy. Transparent pixels count as
    grey, since the colours stored under them are arbitrary."""
    ground = Image.new("RGBA", rgba.size, (*_GROUND, 255))
    ground.alpha_composite(rgba)
    small = ground.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    levels = np.asarray(small, np.int16)
    rises = levels[:, 1:] > levels[:, :-1]
    return np.packbits(rises).tobytes().hex()


def distance(one: str, other: str) -> int:
    """Bits in which two `dhash` differ, of 64."""
    return (int(one, 16) ^ int(other, 16)).bit_count()
