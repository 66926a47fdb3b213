"""Palette files: each format from bytes written here or by a library, and every way to be broken."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import swatch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.GimpPaletteFile import GimpPaletteFile

from serve_app.finishing.palette_files import (
    Palette,
    PaletteError,
    load_palette,
    load_palettes,
    read_palette,
)

COLORS = ((15, 56, 15), (48, 98, 48), (139, 172, 15), (255, 0, 128))
SHIPPED = Path(__file__).parents[2] / "configs" / "palettes"


def as_hex(colors: tuple[tuple[int, int, int], ...]) -> bytes:
    return "".join("{:02x}{:02x}{:02x}\n".format(*c) for c in colors).encode()


def as_gpl(colors: tuple[tuple[int, int, int], ...]) -> bytes:
    rows = "".join("{:3d} {:3d} {:3d}\tsome name\n".format(*c) for c in colors)
    return f"GIMP Palette\nName: Four\nColumns: 4\n# a comment\n{rows}".encode()


def as_jasc(colors: tuple[tuple[int, int, int], ...]) -> bytes:
    rows = "".join("{} {} {}\r\n".format(*c) for c in colors)
    return f"JASC-PAL\r\n0100\r\n{len(colors)}\r\n{rows}".encode()


def as_riff(colors: tuple[tuple[int, int, int], ...]) -> bytes:
    body = struct.pack("<HH", 0x0300, len(colors)) + b"".join(bytes((*c, 0)) for c in colors)
    return (
        b"RIFF"
        + struct.pack("<I", len(body) + 12)
        + b"PAL data"
        + struct.pack("<I", len(body))
        + body
    )


def as_act(colors: tuple[tuple[int, int, int], ...]) -> bytes:
    table = b"".join(bytes(c) for c in colors).ljust(768, b"\0")
    return table + struct.pack(">HH", len(colors), 0xFFFF)


def as_ase(colors: tuple[tuple[int, int, int], ...]) -> bytes:
    """Written by the package swatch."""
    entries = [
        {
            "name": f"c{i}",
            "type": "Process",
            "data": {"mode": "RGB", "values": [v / 255 for v in c]},
        }
        for i, c in enumerate(colors)
    ]
    return bytes(swatch.dumps(entries))


def as_png(colors: tuple[tuple[int, int, int], ...]) -> bytes:
    image = Image.new("RGBA", (len(colors) + 1, 2))
    for x, color in enumerate(colors):
        image.putpixel((x, 0), (*color, 255))
        image.putpixel((x, 1), (*color, 255))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


WRITERS: dict[str, Callable[[tuple[tuple[int, int, int], ...]], bytes]] = {
    "a.hex": as_hex, "a.gpl": as_gpl, "jasc.pal": as_jasc, "riff.pal": as_riff, "a.act": as_act,
    "adobe.ase": as_ase, "a.png": as_png,
}  # fmt: skip
every_format = pytest.mark.parametrize("name", WRITERS)


@every_format
def test_the_colours_come_in_the_files_order(name: str) -> None:
    assert read_palette(WRITERS[name](COLORS), name) == Palette(Path(name).stem, COLORS)


@every_format
def test_a_file_without_colours_is_refused_by_name(name: str) -> None:
    with pytest.raises(PaletteError, match=rf"{name}: "):
        read_palette(WRITERS[name](()) if name != "a.act" else b"", name)


@pytest.mark.parametrize("name", ["a.hex", "a.gpl", "jasc.pal", "riff.pal", "adobe.ase", "a.png"])
def test_300_colours_are_refused(name: str) -> None:
    many = tuple((i % 256, i // 256, 7) for i in range(300))
    with pytest.raises(PaletteError, match="300 colours; at most 256"):
        read_palette(WRITERS[name](many), name)


@pytest.mark.parametrize("name", ["jasc.pal", "riff.pal", "a.act", "adobe.ase", "a.png"])
def test_a_file_cut_in_half_is_refused(name: str) -> None:
    data = WRITERS[name](COLORS)
    with pytest.raises(PaletteError, match=name):
        read_palette(data[: len(data) // 2], name)


@given(st.binary(max_size=200), st.sampled_from(sorted(WRITERS)))
def test_any_bytes_give_a_palette_or_its_error(data: bytes, name: str) -> None:
    with contextlib.suppress(PaletteError):
        assert 1 <= len(read_palette(data, name).colors) <= 256


@given(st.data())
def test_a_damaged_file_gives_a_palette_or_its_error(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(WRITERS)))
    whole = bytearray(WRITERS[name](COLORS))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PaletteError):
        assert 1 <= len(read_palette(bytes(whole), name).colors) <= 256


def test_aseprites_own_file_is_refused_by_its_name() -> None:
    sprite = struct.pack("<IHHHHH", 128, 0xA5E0, 1, 16, 16, 32).ljust(128, b"\0")
    with pytest.raises(PaletteError, match=r"an Aseprite sprite; export its palette"):
        read_palette(sprite, "hero.ase")


def test_pillow_reads_the_same_gimp_palette() -> None:
    data = (SHIPPED / "asset_32.gpl").read_bytes()
    raw, _ = GimpPaletteFile(io.BytesIO(data)).getpalette()
    colors = np.frombuffer(raw, np.uint8).reshape(-1, 3)[:32].tolist()
    assert [tuple(c) for c in colors] == list(read_palette(data, "asset_32.gpl").colors)


def test_hex_lines_may_have_a_hash_before_and_alpha_after() -> None:
    assert read_palette(b"#0a0B0c\r\n\r\n0d0e0fFF\n", "a.hex").colors == (
        (10, 11, 12),
        (13, 14, 15),
    )


def test_an_old_act_has_256_colours_and_no_count() -> None:
    table = b"".join(bytes((i, 0, 0)) for i in range(256))
    assert len(read_palette(table, "a.act").colors) == 256


def test_the_transparent_colour_of_an_act_is_none() -> None:
    data = as_act(COLORS)[:-2] + struct.pack(">H", 1)
    assert read_palette(data, "a.act").colors == (COLORS[0], *COLORS[2:])


def test_a_colour_in_cmyk_is_refused_by_its_model() -> None:
    block = (
        struct.pack(">H", 2)
        + "c\0".encode("utf-16-be")
        + b"CMYK"
        + struct.pack(">4fH", 0, 0, 0, 1, 2)
    )
    data = b"ASEF" + struct.pack(">HHI", 1, 0, 1) + struct.pack(">HI", 1, len(block)) + block
    with pytest.raises(PaletteError, match="CMYK"):
        read_palette(data, "a.ase")


def test_equal_colours_count_once() -> None:
    assert read_palette(as_hex((*COLORS, *COLORS)), "a.hex").colors == COLORS


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.hex"
    path.write_bytes(b"0" * 1_000_001)
    with pytest.raises(PaletteError, match="larger than any palette"):
        load_palette(path)


def test_two_palettes_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.hex").write_bytes(as_hex(COLORS))
    (tmp_path / "a.gpl").write_bytes(as_gpl(COLORS))
    with pytest.raises(PaletteError, match="two palettes named a"):
        load_palettes(tmp_path)


def test_the_shipped_palettes_are_read_and_name_their_licence() -> None:
    palettes = load_palettes(SHIPPED)
    assert {name: len(p.colors) for name, p in palettes.items()} == {
        "asset_16": 16, "asset_32": 32, "cga_16": 16, "gameboy_4": 4, "grey_8": 8, "spectrum_15": 15,
    }  # fmt: skip
    for name in palettes:
        assert "licen" in (SHIPPED / f"{name}.gpl").read_text().lower()
