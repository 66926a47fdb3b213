"""What engines read: one writer a format. Each is a pure function of a packed sheet.

Knows nothing of how a sheet was packed, or where its files go. Paths are relative to the folder of
the pages, with forward slashes, and no two writers use the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serve_app.delivery.formats.aseprite import aseprite
from serve_app.delivery.formats.css import css
from serve_app.delivery.formats.godot import godot
from serve_app.delivery.formats.texturepacker import texturepacker_array, texturepacker_hash
from serve_app.delivery.formats.tiled import tiled
from serve_app.delivery.formats.unity import unity
from serve_app.delivery.sheet import Sheet
from serve_app.delivery.spec import Format

Files = dict[str, bytes]
Writer = Callable[[Sheet], Files]
"""Raises InvalidField when the format cannot say what the sheet is."""

WRITERS: Mapping[Format, Writer] = {
    "texturepacker_hash": texturepacker_hash,
    "texturepacker_array": texturepacker_array,
    "aseprite": aseprite,
    "godot": godot,
    "unity": unity,
    "tiled": tiled,
    "css": css,
}
