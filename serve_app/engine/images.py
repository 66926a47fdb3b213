"""Pixels to files: lossless PNG for results, a small JPEG for previews.

Knows Pillow and arrays; nothing of models or jobs. Runs in a thread pool, off the step loop.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

# Levels above 4 take several times as long for a few percent.
PNG_LEVEL = 4
PREVIEW_SIDE = 256


def png(pixels: Any) -> bytes:
    """`pixels`: uint8 of shape (height, width, 3)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=PNG_LEVEL)
    return file.getvalue()


def preview_jpeg(pixels: Any) -> bytes:
    image = Image.fromarray(pixels)
    scale = max(1, PREVIEW_SIDE // max(image.size))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70)
    return file.getvalue()
