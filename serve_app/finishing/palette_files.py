"""Palette files: .hex, .gpl, JASC and RIFF .pal, .act, Adobe .ase, .png -> at most 256 colours.

Knows nothing of pictures or effects. What a file holds decides, not its name: `.pal` and `.ase` each
name two formats. Every reader raises PaletteError; the formats are described beside each.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from serve_app.errors import ConfigError
from serve_app.finishing.base import hex_of

MOST = 256
SUFFIXES = (".hex", ".gpl", ".pal", ".act", ".ase", ".png")
_LARGEST = 1_000_000  # bytes of a palette file, and pixels of one that is a picture

Color = tuple[int, int, int]


class PaletteError(ConfigError):
    """A palette file cannot be read, or holds no colours, or too many."""


@dataclass(frozen=True)
class Palette:
    """Colours in the file's order, each once."""

    name: str
    colors: tuple[Color, ...]

    @property
    def hex(self) -> list[str]:
        return [hex_of(color) for color in self.colors]


def load_palettes(folder: Path) -> dict[str, Palette]:
    """Every palette file in a folder, by its name without suffix."""
    found: dict[str, Palette] = {}
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() in SUFFIXES:
            if path.stem in found:
                raise PaletteError(f"{path.name}: there are two palettes named {path.stem}")
            found[path.stem] = load_palette(path)
    return found


def load_palette(path: Path) -> Palette:
    if path.stat().st_size > _LARGEST:
        raise PaletteError(f"{path.name}: larger than any palette ({path.stat().st_size:,} bytes)")
    return read_palette(path.read_bytes(), path.name)


def read_palette(data: bytes, name: str) -> Palette:
    """`name` has a suffix, which decides only where the bytes do not."""
    stem, suffix = Path(name).stem, Path(name).suffix.lower()
    try:
        colors = list(dict.fromkeys(_colors(data, suffix)))
    except (struct.error, IndexError, ValueError) as error:
        raise PaletteError(f"{name}: broken or cut short ({error})") from error
    except PaletteError as error:
        raise PaletteError(f"{name}: {error.detail}") from error
    if not colors:
        raise PaletteError(f"{name}: no colours in it")
    if len(colors) > MOST:
        raise PaletteError(f"{name}: {len(colors)} colours; at most {MOST} are allowed")
    return Palette(stem, tuple(colors))


def _colors(data: bytes, suffix: str) -> list[Color]:
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(data)
    if data[:4] == b"RIFF":
        return _riff(data)
    if data[:4] == b"ASEF":
        return _adobe(data)
    if data[4:6] == b"\xe0\xa5":
        raise PaletteError("this is an Aseprite sprite; export its palette as .gpl or .hex")
    if suffix == ".act" and len(data) in (768, 772):
        return _act(data)
    if suffix == ".act":
        raise PaletteError(f"an .act file has 768 or 772 bytes, this one {len(data)}")
    lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    if lines and lines[0] == "JASC-PAL":
        return _jasc(lines)
    if lines and lines[0] == "GIMP Palette":
        return _gimp(lines)
    if suffix == ".hex":
        return [_six(line) for line in lines if line and not line.startswith(";")]
    raise PaletteError(f"not a palette of a known kind; known are {', '.join(SUFFIXES)}")


def _six(line: str) -> Color:
    """One colour a line, the first six hexadecimal digits of it; `#` before and alpha after may be."""
    red, green, blue = bytes.fromhex(line.removeprefix("#")[:6])
    return (red, green, blue)


def _gimp(lines: list[str]) -> list[Color]:
    """After a head of `Name:` and `Columns:`, lines of `red green blue name`; `#` begins a comment."""
    heads = ("Name:", "Columns:", "Channels:", "#")
    rows = [line for line in lines[1:] if line and not line.startswith(heads)]
    return [_three(line.split()[:3]) for line in rows]


def _jasc(lines: list[str]) -> list[Color]:
    """`JASC-PAL`, `0100`, the count, then `red green blue` a line."""
    count = int(lines[2])
    rows = [line for line in lines[3:] if line]
    if len(rows) < count:
        raise ValueError(f"{len(rows)} of {count} colours")
    return [_three(row.split()[:3]) for row in rows[:count]]


def _riff(data: bytes) -> list[Color]:
    """`RIFF`, size, `PAL `, then chunks; `data` holds version 0x0300, a count, and 4 bytes a colour."""
    if data[8:12] != b"PAL ":
        raise PaletteError("a RIFF file, but no palette")
    at = 12
    while data[at : at + 4] != b"data":
        at += 8 + struct.unpack_from("<I", data, at + 4)[0]
    _, count = struct.unpack_from("<HH", data, at + 8)
    return [_three(struct.unpack_from("<BBB", data, at + 12 + 4 * i)) for i in range(count)]


def _act(data: bytes) -> list[Color]:
    """256 times 3 bytes; with 4 more, a count and the index of the transparent colour, big-endian."""
    count, transparent = struct.unpack_from(">HH", data, 768) if len(data) == 772 else (256, 0xFFFF)
    if count > 256:
        raise ValueError(f"a count of {count}")
    wanted = [i for i in range(count or 256) if i != transparent]
    return [_three(data[3 * i : 3 * i + 3]) for i in wanted]


def _adobe(data: bytes) -> list[Color]:
    """`ASEF`, version, then blocks; block 0001 is a colour: name, model, floats. All big-endian."""
    _, _, blocks = struct.unpack_from(">HHI", data, 4)
    at, colors = 12, list[Color]()
    for _ in range(blocks):
        kind, length = struct.unpack_from(">HI", data, at)
        if kind == 1:
            after_name = at + 8 + 2 * struct.unpack_from(">H", data, at + 6)[0]
            colors.append(_adobe_color(data, after_name))
        at += 6 + length
    if at > len(data):
        raise ValueError("its last block ends behind the file")
    return colors


def _adobe_color(data: bytes, at: int) -> Color:
    model = data[at : at + 4]
    if model == b"RGB ":
        return _three([round(255 * v) for v in struct.unpack_from(">fff", data, at + 4)])
    if model == b"Gray":
        return _three([round(255 * v) for v in struct.unpack_from(">f", data, at + 4)] * 3)
    raise PaletteError(f"a colour in {model.decode('latin-1').strip()}; only RGB and Gray are read")


def _png(data: bytes) -> list[Color]:
    """Its different colours, in reading order; transparent pixels are none."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > _LARGEST:
                raise PaletteError(f"a picture of {image.width}x{image.height} is no palette")
            pixels = np.array(image.convert("RGBA")).reshape(-1, 4)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise ValueError("the PNG cannot be decoded") from error
    return [_three(row) for row in pixels[pixels[:, 3] > 0][:, :3].tolist()]


def _three(values: object) -> Color:
    red, green, blue = (int(v) for v in values)  # pyright: ignore
    if not all(0 <= v <= 255 for v in (red, green, blue)):
        raise ValueError(f"a colour of {red}, {green}, {blue}")
    return (red, green, blue)
