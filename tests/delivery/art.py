"""Sprites for the tests, and how a picture that a reader shows is compared with them.

Knows nothing of formats. Alpha is 0 or 255: what is between passes a browser's canvas only rounded.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image

from serve_app.delivery.sheet import Frame, Sheet, pack, whole
from serve_app.delivery.spec import spec_of
from serve_app.delivery.sprite import Borders, Pixels, Sprite

CELL = 48  # pixels: readers show frame i at column i % COLUMNS, row i // COLUMNS
COLUMNS = 4


def sprite(
    name: str,
    width: int = 12,
    height: int = 9,
    rim: tuple[int, int, int, int] = (0, 0, 0, 0),
    pivot: tuple[float, float] = (0.5, 0.5),
    borders: Borders | None = None,
) -> Sprite:
    """Noise that depends on the name alone; `rim` (left, top, right, bottom) is transparent."""
    noise = np.random.default_rng(zlib.crc32(name.encode()))
    pixels = noise.integers(0, 256, (height, width, 4), dtype=np.uint8)
    left, top, right, bottom = rim
    pixels[..., 3] = 0
    pixels[top : height - bottom, left : width - right, 3] = 255
    return Sprite(name, pixels, pivot, borders)


CAST = (
    sprite("walk_0", 24, 30, (3, 5, 2, 1), pivot=(0.5, 1)),
    sprite("walk_1", 24, 30, (4, 2, 0, 1), pivot=(0.5, 1)),
    sprite("walk_2", 24, 30, (1, 7, 8, 0), pivot=(0.5, 1)),
    sprite("button", 40, 24, borders=Borders(5, 6, 7, 8)),
    sprite("nothing", 10, 10, (5, 0, 5, 0)),
    sprite("rock", 33, 17, (0, 0, 9, 0)),
    sprite("2nd-coin", 8, 8),
)
CLIPS = (
    {"name": "walk", "frames": ["walk_0", "walk_1", "walk_2", "walk_1"], "fps": 12},
    {"name": "land", "frames": ["walk_1", "walk_0"], "fps": 7.5, "loop": False},
)


def cast_sheet(*formats: str, **spec: object) -> Sheet:
    """All of CAST with clips, trimmed, extruded and padded."""
    return pack(CAST, spec_of({"formats": formats, "extrude": 1, "clips": CLIPS, **spec}), "test")


def tile_sheet(*formats: str, **spec: object) -> Sheet:
    """Seven tiles of one size, of which four blink."""
    tiles = [sprite(f"tile_{i}", 16, 12) for i in range(7)]
    clip = {"name": "blink", "frames": [f"tile_{i}" for i in (2, 5, 6, 5)], "fps": 4}
    return pack(tiles, spec_of({"formats": formats, "extrude": 1, "clips": [clip], **spec}), "test")


def cell(shown: Pixels, i: int, frame: Frame) -> Pixels:
    """What a reader shows of frame i, and one pixel around it, which must be empty."""
    x, y = i % COLUMNS * CELL, i // COLUMNS * CELL
    return shown[y : y + frame.source_height + 1, x : x + frame.source_width + 1]


def wrong_cells(shown: Pixels, frames: list[Frame]) -> list[str]:
    """Names of frames that do not look like their sprites, pixel for pixel."""
    wrong: list[str] = []
    for i, frame in enumerate(frames):
        wanted = np.pad(whole(frame), ((0, 1), (0, 1), (0, 0)))
        if not same(cell(shown, i, frame), wanted):
            wrong.append(frame.name)
    return wrong


def same(one: Pixels, other: Pixels) -> bool:
    """Equal alpha, and equal colour where there is any to see."""
    if one.shape != other.shape or not np.array_equal(one[..., 3], other[..., 3]):
        return False
    seen = one[..., 3] > 0
    return np.array_equal(one[seen], other[seen])


def decode(png: bytes) -> Pixels:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGBA"))
