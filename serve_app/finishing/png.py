"""Reading any PNG and writing a finished one, with the text that the file had.

Knows nothing of what the texts mean, nor of effects.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from serve_app.finishing.picture import MAX_PIXELS, EffectFailed, Picture, check_size

Texts = Mapping[str, str]
"""Keyword -> text, of tEXt, zTXt and iTXt chunks."""


def read_png(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[Picture, Texts]:
    """Raises EffectFailed for what is no PNG, is cut short, or is larger than allowed."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        check_size(*struct.unpack(">II", data[16:24]), max_pixels)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
            texts: dict[str, str] = dict(getattr(image, "text", {}))
            return Picture.from_image(image, max_pixels), texts
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise EffectFailed("this is not a PNG that can be read to its end") from error


def write_png(picture: Picture, texts: Texts) -> bytes:
    """Equal pictures and texts give equal bytes. Each text is stored plainly where Latin-1 can."""
    info = PngInfo()
    for keyword, text in texts.items():
        if keyword == "XML:com.adobe.xmp":  # readers look for XMP in iTXt alone
            info.add_itxt(keyword, text)
        else:
            info.add_text(keyword, text)
    buffer = io.BytesIO()
    picture.to_image().save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
