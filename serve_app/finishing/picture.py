"""Picture: pixels with alpha, and what is known of them. Effects take one and return another.

Knows nothing of effects, files, jobs or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve_app.errors import ServiceError

Pixels: TypeAlias = NDArray[np.uint8]
"""height x width x 4: red, green, blue and straight (not premultiplied) alpha, 0 to 255."""

Floats: TypeAlias = NDArray[np.floating]

Mask: TypeAlias = NDArray[np.bool_]
"""height x width."""

MAX_PIXELS = 4096 * 4096
MAX_SIDE = 16384


class EffectFailed(ServiceError):
    """An effect cannot do this to this picture; no other attempt would change that."""

    code, title = "effect_failed", "The picture could not be finished"


class Borders(NamedTuple):
    """Widths in pixels of what a nine-slice sprite does not stretch."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that an effect found or did: a stable code, a sentence, and the numbers in it."""

    code: str
    text: str
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels cannot be written to, from here on by nobody: an effect makes new ones (`with_pixels`).

    `pivot` is in pixels from the top left corner, (0, 0) being the corner of the first pixel, so the
    bottom centre is (width / 2, height). `files` holds more pictures by role, each H x W x 3 or 4.
    """

    pixels: Pixels
    pivot: tuple[float, float] | None = None
    borders: Borders | None = None
    notes: tuple[Note, ...] = ()
    files: Mapping[str, NDArray[np.uint8]] = field(default_factory=lambda: MappingProxyType({}))
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 4:
            raise ValueError(f"not H x W x 4 of uint8: {self.pixels.shape} {self.pixels.dtype}")
        if 0 in self.pixels.shape:
            raise ValueError("a picture has at least one pixel")
        self.pixels.flags.writeable = False

    @classmethod
    def from_image(cls, image: Image.Image, max_pixels: int = MAX_PIXELS) -> Picture:
        """Any mode of Pillow; a picture without alpha is opaque. Raises EffectFailed past the limit,
        before the file is decoded."""
        check_size(*image.size, max_pixels)
        return cls(np.array(image.convert("RGBA")), max_pixels=max_pixels)

    def to_image(self) -> Image.Image:
        """RGB when every pixel is opaque, else RGBA."""
        if not self.has_alpha:
            return Image.fromarray(np.ascontiguousarray(self.rgb))
        return Image.fromarray(self.pixels)

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def rgb(self) -> NDArray[np.uint8]:
        return self.pixels[..., :3]

    @property
    def alpha(self) -> NDArray[np.uint8]:
        return self.pixels[..., 3]

    @property
    def has_alpha(self) -> bool:
        return bool((self.alpha < 255).any())

    @property
    def coverage(self) -> float:
        """The share of pixels that are at least half opaque."""
        return float((self.alpha > 127).mean())

    @property
    def anchor(self) -> tuple[float, float] | None:
        """The pivot as shares of width and height, y down, as atlas files want it."""
        if self.pivot is None:
            return None
        return (self.pivot[0] / self.width, self.pivot[1] / self.height)

    def with_pixels(self, pixels: Pixels) -> Picture:
        """Other pixels of the same size, everything else kept."""
        if pixels.shape != self.pixels.shape:
            raise ValueError("another size moves pivot and borders: use `placed`")
        return replace(self, pixels=pixels)

    def placed(self, pixels: Pixels, dx: float, dy: float) -> Picture:
        """Pixels of another size, in which what was at (0, 0) is now at (dx, dy), at the same scale."""
        pivot = self.pivot and (self.pivot[0] + dx, self.pivot[1] + dy)
        borders = self.borders
        if borders is not None:
            right = pixels.shape[1] - self.width - dx
            bottom = pixels.shape[0] - self.height - dy
            moved = zip(borders, (dx, dy, right, bottom), strict=True)
            borders = Borders(*(max(0, round(old + more)) for old, more in moved))
        return replace(self, pixels=pixels, pivot=pivot, borders=borders)

    def scaled(self, pixels: Pixels) -> Picture:
        """The whole picture at another size."""
        sx, sy = pixels.shape[1] / self.width, pixels.shape[0] / self.height
        pivot = self.pivot and (self.pivot[0] * sx, self.pivot[1] * sy)
        borders = self.borders
        if borders is not None:
            factors = (sx, sy, sx, sy)
            borders = Borders(*(round(b * f) for b, f in zip(borders, factors, strict=True)))
        return replace(self, pixels=pixels, pivot=pivot, borders=borders)

    def noted(self, code: str, text: str, **numbers: float) -> Picture:
        return replace(self, notes=(*self.notes, Note(code, text, numbers)))

    def with_file(self, role: str, pixels: NDArray[np.uint8]) -> Picture:
        return replace(self, files=MappingProxyType({**self.files, role: pixels}))

    def check_room(self, width: int, height: int) -> None:
        """Call before allocating: raises EffectFailed if the new picture were over the limits."""
        check_size(width, height, self.max_pixels)


def check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise EffectFailed(
            f"the picture would be {width}x{height}; at most {max_pixels:,} pixels and"
            f" {MAX_SIDE:,} a side are allowed"
        )
    if min(width, height) < 1:
        raise EffectFailed(f"the picture would be {width}x{height}")
