"""brought(): a picture file from a stranger becomes a plain PNG of 8 bits in sRGB, or is refused.

Knows formats and bounds; nothing of owners, folders or HTTP. What is not a pixel does not get in.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageCms

from serve_app.artifacts.inspection.container import PIXELS_IN_PNG, read_container, without_texts
from serve_app.errors import InvalidField

FIELD = "body"
PNG_LEVEL = 3
"""Of compression: higher ones take several times as long and save a few percent."""

_READ = PIXELS_IN_PNG | {b"iCCP", b"eXIf", b"acTL", b"gAMA", b"cHRM", b"sRGB"}
"""Chunks of a PNG that a decoder gets. It has bounds of its own for texts, which are dropped anyway."""

_TURNS = {  # EXIF's orientation -> what puts the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class PlainPng:
    """`data`: an RGB or RGBA PNG without metadata. `sha256`: of `data`; equal pixels have equal hashes."""

    data: bytes
    width: int
    height: int
    has_alpha: bool
    sha256: str


def brought(data: bytes, max_pixels: int) -> PlainPng:
    """`data`: a PNG, JPEG or WebP with one frame. Nothing is decoded of a picture with more pixels than
    allowed. Raises InvalidField."""
    found = read_container(data)
    _check_size(found.width, found.height, max_pixels)
    if found.format == "png":
        data = without_texts(data, _READ)
    try:
        with Image.open(io.BytesIO(data), formats=[found.format.upper()]) as image:
            _check_size(image.width, image.height, max_pixels)
            # A JPEG of a phone may hold a second picture, for depth; that is no frame.
            if found.format != "jpeg" and getattr(image, "is_animated", False):
                raise InvalidField(FIELD, "is animated", ["a picture of one frame"])
            image.load()
            turn = _turn_of(image)
            pixels = _in_srgb(image)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise InvalidField(FIELD, "is broken or incomplete", ["PNG", "WebP", "JPEG"]) from error
    if turn is not None:
        pixels = pixels.transpose(turn)
    return encoded(pixels)


def encoded(pixels: Image.Image) -> PlainPng:
    """`pixels`: RGB or RGBA; an alpha that hides nothing is left out."""
    array = np.asarray(pixels)
    if array.shape[2] == 4 and (array[..., 3] == 255).all():
        array = array[..., :3]
    clean = Image.fromarray(np.ascontiguousarray(array))  # without what the file said beside pixels
    file = io.BytesIO()
    clean.save(file, "PNG", compress_level=PNG_LEVEL)
    data = file.getvalue()
    return PlainPng(
        data=data,
        width=clean.width,
        height=clean.height,
        has_alpha=clean.mode == "RGBA",
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InvalidField(
            FIELD, f"has {width}x{height} pixels", [f"up to {max_pixels} pixels in all"]
        )


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """None: it is upright, or what it says of that cannot be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def _in_srgb(image: Image.Image) -> Image.Image:
    """RGB or RGBA of 8 bits. Colours of another profile are converted, if the profile can be read."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion would clip them
        levels = np.asarray(image).astype(np.uint32) >> 8
        image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    wanted = "RGBA" if image.has_transparency_data else "RGB"
    if not profile:
        return image.convert(wanted)
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert(wanted)
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    plain = image.convert("RGB") if alpha is not None else image
    converted = _converted(plain, profile).convert("RGB")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        found = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image
    return image if found is None else found
