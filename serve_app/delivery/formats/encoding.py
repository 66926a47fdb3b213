"""Text and pictures as bytes, the same bytes every time.

Knows no format of an engine.
"""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image

from serve_app.delivery.sprite import Pixels

PNG_LEVEL = 6


def as_json(value: Any) -> bytes:
    """Keys in the order given: readers take frames in that order."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def as_png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=PNG_LEVEL)
    return file.getvalue()


def number(value: float) -> str:
    """As short as it goes: 12, 0.5, 83.333333; never 1e-05."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
