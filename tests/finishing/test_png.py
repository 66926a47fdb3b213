"""PNG: texts are kept, and what cannot be read is refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from serve_app.finishing.picture import EffectFailed
from serve_app.finishing.png import read_png, write_png
from tests.finishing.sprites import sprite

TEXTS = {
    "parameters": "a sword\nSteps: 20",
    "job": '{"a": "ü €"}',
    "XML:com.adobe.xmp": "<x:xmpmeta/>",
}


def written(size: tuple[int, int] = (8, 8)) -> bytes:
    info = PngInfo()
    for keyword, text in TEXTS.items():
        info.add_itxt(keyword, text)
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 10, 10)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def test_texts_come_back_after_finishing() -> None:
    picture, texts = read_png(written())
    again, kept = read_png(write_png(picture, texts))
    assert dict(kept) == TEXTS
    assert np.array_equal(again.pixels, picture.pixels)


def test_alpha_comes_back_exactly() -> None:
    truth = sprite(64).truth
    assert np.array_equal(read_png(write_png(truth, {}))[0].pixels, truth.pixels)


BROKEN = {
    "empty": b"",
    "text": b"not a picture",
    "cut in its head": written()[:60],
    "cut in its pixels": write_png(sprite(64).drawn, {})[:-300],
    "another format": b"GIF89a" + bytes(40),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(EffectFailed, match="not a PNG"):
        read_png(data)


def test_a_huge_picture_is_refused_before_it_is_decoded() -> None:
    """A header that promises 10,000 x 10,000 pixels, and no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    head = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    pixels = b"IDAT"
    rest = struct.pack(">I", 0) + pixels + struct.pack(">I", zlib.crc32(pixels))
    with pytest.raises(EffectFailed, match="10000x10000"):
        read_png(b"\x89PNG\r\n\x1a\n" + head + rest)
