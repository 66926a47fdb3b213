"""Imprint: two hashes of a picture, whatever its file format: of its exact pixels, and of how it looks.

Knows pixels. Which files are alike is asked with `distance`.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

from PIL import Image

from serve_app.dhash import dhash
from serve_app.messages import Prints

SIMILAR_BITS = 10
"""Two pictures whose `dhash` differ in so many bits at most may be versions of one another. Sprites that
were blurred and resized differed in 2, shifted by 4 pixels in 11, others in 17 and more."""

MAX_PIXELS = 2**26

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
    return Imprint(digest.hexdigest(), f"{dhash(_on_grey(rgba)):016x}")


def _on_grey(rgba: Image.Image) -> Image.Image:
    """The colours stored under transparent pixels are arbitrary."""
    ground = Image.new("RGBA", rgba.size, (*_GROUND, 255))
    ground.alpha_composite(rgba)
    return ground


def distance(one: str, other: str) -> int:
    """Bits in which two `dhash` differ, of 64."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def printed(data: bytes) -> Prints:
    """How a picture file is found again by its pixels; empty: it is none."""
    try:
        imprint = imprint_of(data)
    except ValueError:
        return Prints()
    return Prints(pixels_sha256=imprint.pixels_sha256, dhash=imprint.dhash)


def prints_of(file: Prints) -> Prints:
    """Those of a stored file, for one that is the same."""
    found = Prints()
    if "pixels_sha256" in file and "dhash" in file:
        found["pixels_sha256"], found["dhash"] = file["pixels_sha256"], file["dhash"]
    return found
