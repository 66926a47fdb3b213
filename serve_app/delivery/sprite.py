"""Sprite: one picture on its way into a sheet, with what an engine must know of it.

Knows nothing of pages, formats, or where its pixels came from.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve_app.delivery.names import name_problem
from serve_app.delivery.spec import MAX_SIDE
from serve_app.errors import InvalidField

_PNG = b"\x89PNG\r\n\x1a\n"

Pixels = NDArray[np.uint8]
"""Shape (height, width, 4): RGBA with straight alpha."""


@dataclass(frozen=True, slots=True)
class Borders:
    """Of a nine-slice: pixels from each edge that keep their size when the picture is stretched."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """`pivot` is where an engine puts and turns it: shares of width and height from the top left.

    Raises InvalidField for a name that is not safe, pixels of another shape, borders that overlap.
    """

    name: str
    pixels: Pixels
    pivot: tuple[float, float] = (0.5, 0.5)
    borders: Borders | None = None

    def __post_init__(self) -> None:
        if wrong := name_problem(self.name):
            raise InvalidField("name", wrong)
        shape = self.pixels.shape
        if len(shape) != 3 or shape[2] != 4 or self.pixels.dtype != np.uint8:
            raise InvalidField(
                "pixels", f"{self.name}: RGBA of 8 bits is needed, not {shape} {self.pixels.dtype}"
            )
        if not (0 < self.width <= MAX_SIDE and 0 < self.height <= MAX_SIDE):
            raise InvalidField(
                "pixels",
                f"{self.name}: {self.width}x{self.height}; sides may be 1 to {MAX_SIDE} pixels",
            )
        if not all(-10 <= part <= 10 for part in self.pivot):  # NaN is not, either
            raise InvalidField("pivot", f"{self.name}: {self.pivot}; -10 to 10, and 0.5 is central")
        if self.borders is not None and not _inside(self.borders, self.width, self.height):
            raise InvalidField(
                "borders",
                f"{self.name}: {self.borders} leaves nothing of {self.width}x{self.height} between",
            )

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @classmethod
    def from_png(cls, name: str, data: bytes) -> Sprite:
        """Raises InvalidField when it is no PNG, cut short, or too large; that is seen before its
        pixels are unpacked."""
        width, height = png_size(name, data)
        if max(width, height) > MAX_SIDE:
            raise InvalidField(
                "pixels", f"{name}: {width}x{height}; sides may be 1 to {MAX_SIDE} pixels"
            )
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                # Pillow clips gray of 16 bits where it should scale it.
                deep = image.mode.startswith("I")
                eight = (
                    Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if deep else image
                )
                return cls(name, np.asarray(eight.convert("RGBA")))
        except (OSError, SyntaxError, ValueError) as error:
            raise InvalidField("pixels", f"{name}: not a PNG that can be read") from error


def png_size(name: str, head: bytes) -> tuple[int, int]:
    """Width and height, from a PNG's first 24 bytes. Raises InvalidField: it is none."""
    if len(head) < 24 or not head.startswith(_PNG):
        raise InvalidField("pixels", f"{name}: not a PNG that can be read")
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def _inside(borders: Borders, width: int, height: int) -> bool:
    parts = (borders.left, borders.top, borders.right, borders.bottom)
    return (
        min(parts) >= 0
        and borders.left + borders.right < width
        and borders.top + borders.bottom < height
    )
