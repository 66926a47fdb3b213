"""The texts of an EXIF block: where programs that write JPEG and WebP put what PNG has chunks for.

Knows TIFF's tables as far as three text tags; every offset is checked, since the block comes from strangers.
"""

from __future__ import annotations

import struct

_EXIF_TABLE = 0x8769
_TEXTS = {0x010E: "ImageDescription", 0x010F: "Make", 0x0110: "Model", 0x9286: "UserComment"}
_MOST_ENTRIES = 500
_TYPE_BYTES = {1: 1, 2: 1, 7: 1}  # BYTE, ASCII, UNDEFINED: the only types that hold texts


def exif_texts(block: bytes) -> dict[str, str]:
    """Tag name -> text. What is broken or out of bounds is left out."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return {}
    found: dict[str, str] = {}
    tables, seen = [_number(block, order, "I", 4)], set[int]()
    while tables:
        at = tables.pop()
        if at is None or at in seen:
            continue
        seen.add(at)
        for tag, kind, count, place in _entries(block, order, at):
            if tag == _EXIF_TABLE:
                tables.append(_number(block, order, "I", place))
            elif tag in _TEXTS and kind in _TYPE_BYTES:
                start = place if count <= 4 else _number(block, order, "I", place)
                if start is not None and start + count <= len(block):
                    found[_TEXTS[tag]] = _decoded(block[start : start + count], order)
    return found


def _entries(block: bytes, order: str, at: int) -> list[tuple[int, int, int, int]]:
    """Tag, type, count, and where the value or its offset stands."""
    many = min(_number(block, order, "H", at) or 0, _MOST_ENTRIES)
    places = [at + 2 + 12 * n for n in range(many)]
    return [
        (*struct.unpack_from(f"{order}HHI", block, place), place + 8)
        for place in places
        if place + 12 <= len(block)
    ]


def _number(block: bytes, order: str, kind: str, at: int) -> int | None:
    size = struct.calcsize(kind)
    return struct.unpack_from(order + kind, block, at)[0] if at + size <= len(block) else None


def _decoded(raw: bytes, order: str) -> str:
    """A UserComment begins with eight bytes that name its encoding."""
    if raw.startswith(b"UNICODE\0"):
        body = raw[8:]
        # The standard says the block's byte order. Writers differ; text of ours and theirs is mostly ASCII.
        even, odd = body[0::2].count(0), body[1::2].count(0)
        kind = "utf-16-be" if even > odd or (even == odd and order == ">") else "utf-16-le"
        return body.decode(kind, "replace").rstrip("\0")
    return raw.removeprefix(b"ASCII\0\0\0").decode("utf-8", "replace").rstrip("\0")
