"""Container: what a PNG, WebP or JPEG file says beside its pixels, which are not decoded here.

Knows the three formats' outer shape. What the texts mean is for `dialects.py`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from serve_app.errors import InvalidField

MAX_TEXT = 4 * 2**20
"""Bytes of one text, unpacked: workflows of other programs reach one or two million."""
MAX_TEXTS = 64
MAX_CHUNKS = 20_000

_PNG = b"\x89PNG\r\n\x1a\n"
PIXELS_IN_PNG = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_SIZES_IN_JPEG = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # SOF markers
_LAST_IN_JPEG = frozenset({0xDA, 0xD9})  # SOS: the pixels begin; EOI
_TEXTS_IN_JPEG = frozenset({*range(0xE1, 0xF0), 0xFE} - {0xEE})  # APP14 says what the colours are
_BARE_IN_JPEG = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


@dataclass
class Container:
    """`texts`: keyword -> text. `exif`: a TIFF block. `c2pa_bytes`: of a manifest that is embedded."""

    format: str  # png, webp or jpeg
    width: int = 0
    height: int = 0
    texts: dict[str, str] = field(default_factory=dict[str, str])
    exif: bytes = b""
    c2pa_bytes: int = 0
    notes: list[str] = field(default_factory=list[str])

    def add_text(self, keyword: str, text: str) -> None:
        if len(self.texts) < MAX_TEXTS:
            self.texts.setdefault(keyword, text)
        elif len(self.texts) == MAX_TEXTS:
            self.note(f"too_many_texts: only the first {MAX_TEXTS} were read")

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def read_container(data: bytes) -> Container:
    """Raises InvalidField for a file that begins like none of the three. One that is cut short gives what
    there is, and a note."""
    if data[:8] == _PNG:
        return _png(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data[:3] == b"\xff\xd8\xff":
        return _jpeg(data)
    raise InvalidField("body", "is no picture that can be read", ["PNG", "WebP", "JPEG"])


# ---- PNG ----


def _png(data: bytes) -> Container:
    found = Container("png")
    end = len(_PNG)
    for kind, body, after in _png_chunks(data, found):
        end = after
        match kind:
            case b"IHDR" if len(body) >= 8:
                found.width, found.height = struct.unpack(">II", body[:8])
            case b"tEXt" | b"zTXt" | b"iTXt":
                _add_png_text(found, kind, body)
            case b"eXIf":
                found.exif = bytes(body)
            case b"caBX":
                found.c2pa_bytes += len(body)
            case b"IEND":
                break
            case _:
                pass
    else:
        found.note("truncated: the file ends before its picture does")
        return found
    if end < len(data):
        found.note(f"trailing_bytes: {len(data) - end} bytes follow the end of the picture")
    return found


def without_texts(data: bytes, kept_in_png: frozenset[bytes] = PIXELS_IN_PNG) -> bytes:
    """The same picture, where it is PNG or JPEG without anything that is no pixel: decoders read texts too,
    with bounds and complaints of their own. `kept_in_png`: kinds of chunks that stay."""
    if data[:3] == b"\xff\xd8\xff":
        segments = _jpeg_segments(data)
        dropped = [(start, end) for marker, start, end in segments if marker in _TEXTS_IN_JPEG]
        starts, ends = [0, *(end for _, end in dropped)], [*(start for start, _ in dropped), None]
        return b"".join(data[a:b] for a, b in zip(starts, ends, strict=True))
    if data[:8] != _PNG:
        return data
    kept = [data[: len(_PNG)]]
    for kind, body, end in _png_chunks(data, Container("png")):
        if kind in kept_in_png:
            kept.append(data[end - len(body) - 12 : end])
    return b"".join(kept)


def _png_chunks(data: bytes, found: Container) -> Iterator[tuple[bytes, memoryview, int]]:
    """Kind, body, and where the chunk ends. Stops at the first that is not whole."""
    view, at = memoryview(data), len(_PNG)
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            return
        (length,) = struct.unpack(">I", view[at : at + 4])
        after = at + 12 + length
        if after > len(data):
            return
        yield bytes(view[at + 4 : at + 8]), view[at + 8 : after - 4], after
        at = after
    found.note(f"too_many_chunks: only the first {MAX_CHUNKS} were read")


def _add_png_text(found: Container, kind: bytes, body: memoryview) -> None:
    keyword_bytes, _, rest = bytes(body[:80]).partition(b"\0")
    keyword = keyword_bytes.decode("latin-1")
    raw = body[len(keyword_bytes) + 1 :]
    encoding, packed = "latin-1", False
    if kind == b"zTXt":
        raw, packed = raw[1:], True
    elif kind == b"iTXt":
        packed, encoding = rest[:1] == b"\1", "utf-8"
        # Compression flag and method, then a language and a translated keyword, each ended by a zero.
        inner = bytes(raw[2:514])
        ends = inner.find(b"\0", inner.find(b"\0") + 1)
        if ends < 0:
            found.note(f"unreadable_text: {keyword[:40]}")
            return
        raw = raw[2 + ends + 1 :]
    text = _unpacked(raw) if packed else bytes(raw[: MAX_TEXT + 1])
    if text is None:
        found.note(f"unreadable_text: {keyword[:40]}")
    elif len(text) > MAX_TEXT:
        found.note(
            f"text_too_large: {keyword[:40]} has more than {MAX_TEXT} bytes, and was not read"
        )
    else:
        found.add_text(keyword, text.decode(encoding, "replace"))


def _unpacked(raw: memoryview) -> bytes | None:
    """At most one byte more than MAX_TEXT: a few kilobytes may unpack to gigabytes."""
    try:
        return zlib.decompressobj().decompress(raw, MAX_TEXT + 1)
    except zlib.error:
        return None


# ---- WebP ----


def _webp(data: bytes) -> Container:
    found, view, at = Container("webp"), memoryview(data), 12
    said = 8 + struct.unpack("<I", view[4:8])[0]
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        kind, length = bytes(view[at : at + 4]), struct.unpack("<I", view[at + 4 : at + 8])[0]
        body = view[at + 8 : at + 8 + length]
        match kind:
            case b"VP8X" if len(body) >= 10:
                found.width = 1 + int.from_bytes(body[4:7], "little")
                found.height = 1 + int.from_bytes(body[7:10], "little")
            case b"VP8 " if len(body) >= 10 and not found.width:
                found.width, found.height = (n & 0x3FFF for n in struct.unpack("<HH", body[6:10]))
            case b"VP8L" if len(body) >= 5 and not found.width:
                bits = int.from_bytes(body[1:5], "little")
                found.width, found.height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
            case b"EXIF":
                found.exif = bytes(body).removeprefix(b"Exif\0\0")
            case b"XMP ":
                _add_xmp(found, body)
            case b"C2PA":
                found.c2pa_bytes += len(body)
            case _:
                pass
        at += 8 + length + length % 2
    if len(data) < said or at > len(data) + 1:
        found.note("truncated: the file ends before its picture does")
    return found


# ---- JPEG ----


def _jpeg(data: bytes) -> Container:
    found, view, marker = Container("jpeg"), memoryview(data), 0
    for marker, start, end in _jpeg_segments(data):
        body = view[start + 4 : end]
        if marker in _SIZES_IN_JPEG and len(body) >= 5:
            found.height, found.width = struct.unpack(">HH", body[1:5])
        elif marker == 0xE1 and bytes(body[:6]) == b"Exif\0\0":
            found.exif = bytes(body[6:])
        elif marker == 0xE1 and bytes(body[: len(_XMP_IN_JPEG)]) == _XMP_IN_JPEG:
            _add_xmp(found, body[len(_XMP_IN_JPEG) :])
        elif marker == 0xEB and bytes(body[:2]) == b"JP":
            found.c2pa_bytes += len(body)
        elif marker == 0xFE:
            found.add_text("comment", bytes(body).decode("utf-8", "replace"))
    if marker not in _LAST_IN_JPEG or not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        found.note("truncated: the file ends before its picture does")
    return found


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment before the pixels; the last one is where they begin."""
    at = 2
    for _ in range(MAX_CHUNKS):
        if at + 4 > len(data) or data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF or marker in _BARE_IN_JPEG:
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at, end
        if marker in _LAST_IN_JPEG:
            return
        at = end


def _add_xmp(found: Container, body: memoryview) -> None:
    if len(body) > MAX_TEXT:
        found.note(f"text_too_large: XMP has more than {MAX_TEXT} bytes, and was not read")
    else:
        found.add_text("XML:com.adobe.xmp", bytes(body).decode("utf-8", "replace"))
