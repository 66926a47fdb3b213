"""Two pictures, pixel by pixel: are they the same, and if not, how far apart, where, and what was different
when they were made.

Knows picture files and the record in those of ours; nothing of jobs or folders.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve_app.artifacts.inspection.container import read_container
from serve_app.artifacts.inspection.dialects import ours
from serve_app.artifacts.inspection.exif import exif_texts
from serve_app.errors import InvalidField

_MADE_BY = {
    "weights": "weights_changed",
    "device": "other_device",
    "dtype": "other_precision",
    "threads": "other_threads",
    "torch": "other_torch",
    "diffusers": "other_diffusers",
}
"""Of `made_by` in a record, what may change pixels, and its name among reasons."""


@dataclass(frozen=True, slots=True)
class Difference:
    """`levels`: the largest difference of any channel, 1 to 255; `share`: of the pixels that differ, more
    than 0 to 1; `box`: left, top, width and height of the rectangle around them."""

    levels: int
    share: float
    box: tuple[int, int, int, int]


def difference(one: bytes, other: bytes) -> Difference | None:
    """Of two PNG or WebP files; None: all pixels are equal, transparent ones too. Raises ValueError: one of
    them cannot be decoded, or their sizes differ."""
    first, second = _pixels(one), _pixels(other)
    if first.shape != second.shape:
        (h, w), (height, width) = first.shape[:2], second.shape[:2]
        raise ValueError(f"{w}x{h} pixels, and {width}x{height}")
    apart = np.abs(first.astype(np.int16) - second).max(axis=2)
    y, x = np.nonzero(apart)
    if not len(y):
        return None
    left, top = int(x.min()), int(y.min())
    box = (left, top, int(x.max()) - left + 1, int(y.max()) - top + 1)
    return Difference(int(apart.max()), len(y) / apart.size, box)


def what_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """From two records: what was not the same when the pictures were made, as far as it may change pixels."""
    was, now = before.get("made_by") or {}, after.get("made_by") or {}
    return [
        f"{name}: {str(was[key])[:60]} then, {str(now[key])[:60]} now"
        for key, name in _MADE_BY.items()
        if key in was and key in now and was[key] != now[key]
    ]


def record_of(data: bytes) -> dict[str, Any]:
    """What a PNG or WebP of ours says of itself; empty: nothing, or it is none of ours."""
    try:
        found = read_container(data)
    except InvalidField:
        return {}
    recipe = ours(found.texts | exif_texts(found.exif))
    return {} if recipe is None else recipe.record


def _pixels(data: bytes) -> NDArray[np.uint8]:
    """Height x width x RGBA."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "WEBP"]) as image:
            return np.asarray(image.convert("RGBA"))
    except (OSError, SyntaxError) as error:
        raise ValueError("it cannot be decoded") from error
