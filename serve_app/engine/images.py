"""Pixels to files: lossless PNG for results, small JPEG for previews.

Knows Pillow and arrays; nothing of models or jobs. The engine calls it in the threads of its `Encoders`.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

PNG_LEVEL = 4  # higher ones take several times as long and save a few percent
PREVIEW_SIDE = 256  # pixels; smaller previews are enlarged by a whole factor up to it


def png(pixels: Any) -> bytes:
    """`pixels`: uint8 (height, width, 3), RGB."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=PNG_LEVEL)
    return file.getvalue()


def preview_jpeg(pixels: Any) -> bytes:
    """`pixels`: uint8 (height, width, 3), RGB, one pixel per latent."""
    image = Image.fromarray(pixels)
    scale = max(1, PREVIEW_SIDE // max(image.size))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70)
    return file.getvalue()
