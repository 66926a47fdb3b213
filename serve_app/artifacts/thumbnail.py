"""Thumbnails: small looks at stored pictures, as WebP.

Knows pixels and files; not who asks, or how often.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from PIL import Image

QUALITY = 82


def thumbnail(file: BinaryIO | Path, side: int, max_pixels: int) -> bytes | None:
    """A WebP that fits into `side` x `side` pixels, with the picture's transparency. None: the picture is no
    larger than that, or has more than `max_pixels`, or cannot be read: then its file is as good a look as
    there is."""
    try:
        with Image.open(file) as picture:
            if max(picture.size) <= side or picture.width * picture.height > max_pixels:
                return None
            mode = "RGBA" if picture.has_transparency_data else "RGB"
            small = picture.convert(mode)
            small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    except (OSError, ValueError, SyntaxError):
        return None
    made = io.BytesIO()
    small.save(made, "WEBP", quality=QUALITY, method=3)
    return made.getvalue()
