"""A before/after sheet: the picture as it was, and what became of it on grounds that show fringes.

Knows nothing of effects or files.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from serve_app.finishing.picture import Picture

TILE, GAP = 256, 8  # pixels; the least side of a picture on the sheet, and the space around it
_CHECKS = ((255, 255, 255), (204, 204, 204))
_GROUNDS = {"black": (0, 0, 0), "white": (255, 255, 255), "violet": (143, 0, 255)}
_SHEET = (90, 90, 90)


def before_after(before: Picture, after: Picture) -> Image.Image:
    """One row: before, then after on checks, black, white and violet; its files (a normal map) at the
    end. Small pictures are enlarged by whole factors."""
    shown = [_on_checks(before), _on_checks(after)]
    shown += [_on(after, Image.new("RGB", after.pixels.shape[1::-1], c)) for c in _GROUNDS.values()]
    shown += [Image.fromarray(pixels).convert("RGB") for pixels in after.files.values()]
    return in_rows([[_enlarged(image) for image in shown]])


def in_rows(rows: list[list[Image.Image]]) -> Image.Image:
    widths = [sum(i.width + GAP for i in row) + GAP for row in rows]
    heights = [max(i.height for i in row) + GAP for row in rows]
    sheet = Image.new("RGB", (max(widths), sum(heights) + GAP), _SHEET)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        left = GAP
        for image in row:
            sheet.paste(image, (left, top))
            left += image.width + GAP
        top += height
    return sheet


def _enlarged(image: Image.Image) -> Image.Image:
    factor = max(1, round(TILE / max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _on_checks(picture: Picture) -> Image.Image:
    size = max(1, min(picture.width, picture.height) // 16)
    y = np.arange(picture.height)[:, None] // size
    x = np.arange(picture.width)[None] // size
    return _on(picture, Image.fromarray(np.array(_CHECKS, np.uint8)[(y + x) % 2]))


def _on(picture: Picture, ground: Image.Image) -> Image.Image:
    ground = ground.convert("RGBA")
    ground.alpha_composite(Image.fromarray(picture.pixels))
    return ground.convert("RGB")
