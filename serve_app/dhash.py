"""dhash: 64 bits that say how a picture looks; alike pictures differ in few of them.

Knows opaque pixels: what transparent ones stand on is the caller's choice, and how many bits are few.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def dhash(image: Image.Image) -> int:
    """Is each of 8 x 8 fields brighter than the one to its left? Row by row, the highest bit first, as the
    package imagehash does it (N. Krawetz, "Kind of Like That", 2013)."""
    small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")
