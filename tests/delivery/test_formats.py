"""Formats that are read by a schema or a parser alone: Aseprite's JSON and Unity's .meta."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from serve_app.delivery.archive import files
from serve_app.delivery.formats import WRITERS
from serve_app.delivery.sheet import Sheet, draw, pack, whole
from serve_app.delivery.spec import FORMATS, SheetSpec
from serve_app.delivery.sprite import Borders
from serve_app.errors import InvalidField
from tests.delivery.art import CAST, cast_sheet, same, sprite, tile_sheet
from tests.delivery.conftest import Outside

README = Path(__file__).parents[2] / "serve_app/delivery/README.md"


def test_every_format_has_a_writer() -> None:
    assert tuple(WRITERS) == FORMATS


def test_the_readme_names_every_format_and_every_file() -> None:
    text = README.read_text()
    assert all(f"`{name}`" in text for name in FORMATS)
    made = {path for sheet in (cast_sheet(*FORMATS), tile_sheet(*FORMATS)) for path in files(sheet)}
    endings = {Path(path).name.partition(".")[2] for path in made}
    assert all(f".{ending}" in text for ending in endings)


@pytest.mark.parametrize("sheet", [cast_sheet("css"), tile_sheet("css")], ids=["cast", "tiles"])
def test_no_two_formats_write_to_one_path(sheet: Sheet) -> None:
    seen: dict[str, bytes] = {page.file: b"" for page in sheet.pages}
    for name, writer in WRITERS.items():
        for path, data in writer(sheet).items():
            assert path not in seen or seen[path] == data, (name, path)
            seen[path] = data


def test_aseprite_json_is_what_its_schema_says(npm: Path) -> None:
    schema = json.loads((npm / "@kayahr/aseprite/lib/aseprite.schema.json").read_text())
    made = json.loads(files(cast_sheet("aseprite"))["sheet.aseprite.json"])
    jsonschema.Draft7Validator(schema).validate(made)


def test_aseprite_slices_carry_names_pivots_and_nine_slices() -> None:
    meta = json.loads(files(cast_sheet("aseprite"))["sheet.aseprite.json"])["meta"]
    keys = {one["name"]: one["keys"][0] for one in meta["slices"]}
    assert keys["walk_2"]["frame"] == 2
    assert keys["walk_2"]["pivot"] == {"x": 12, "y": 30}
    assert keys["button"]["center"] == {"x": 5, "y": 6, "w": 28, "h": 10}


def test_a_clip_that_ends_plays_once_in_aseprite() -> None:
    meta = json.loads(files(cast_sheet("aseprite"))["sheet.aseprite.json"])["meta"]
    assert [tag.get("repeat") for tag in meta["frameTags"]] == [None, "1"]


def test_aseprite_of_several_pages_is_refused() -> None:
    with pytest.raises(InvalidField, match="max_size") as caught:
        files(cast_sheet("aseprite", max_size=64))
    assert caught.value.field == "formats"


READ_META = """
import json, sys
from unityparser import UnityDocument
print(json.dumps(UnityDocument.load_yaml(sys.argv[1]).entry))
"""


def read_meta(outside: Outside, path: Path, data: bytes) -> dict[str, Any]:
    """What unityparser sees; it leaves every number a string."""
    path.write_bytes(data)
    return json.loads(outside(READ_META, str(path)))


@pytest.mark.parametrize("size", [4096, 64], ids=["one page", "several"])
def test_unity_cuts_every_sprite_out_of_its_page(
    outside: Outside, tmp_path: Path, size: int
) -> None:
    sheet = cast_sheet("unity", max_size=size)
    content = files(sheet)
    for n, page in enumerate(sheet.pages):
        meta = read_meta(outside, tmp_path / "one.meta", content[f"{page.file}.meta"])
        rects = {
            one["name"]: one["rect"] for one in meta["TextureImporter"]["spriteSheet"]["sprites"]
        }
        assert list(rects) == [frame.name for frame in sheet.on(n)]
        upright = draw(sheet, n)[::-1]  # y counts from below
        for frame in sheet.on(n):
            x, y, width, height = (int(rects[frame.name][k]) for k in ("x", "y", "width", "height"))
            assert same(upright[y : y + height, x : x + width][::-1], frame.pixels)


def sprites_of(outside: Outside, path: Path, sheet: Sheet) -> dict[str, dict[str, Any]]:
    meta = read_meta(outside, path / "one.meta", files(sheet)["sheet.png.meta"])
    return {one["name"]: one for one in meta["TextureImporter"]["spriteSheet"]["sprites"]}


def test_unity_turns_a_trimmed_sprite_around_the_point_of_the_whole(
    outside: Outside, tmp_path: Path
) -> None:
    """Its pivot is a share of the trimmed rectangle, with y upwards."""
    sheet = cast_sheet("unity")
    one, frame = sprites_of(outside, tmp_path, sheet)["walk_0"], sheet.frames[0]
    x = frame.trim_x + float(one["pivot"]["x"]) * frame.width
    y = frame.trim_y + (1 - float(one["pivot"]["y"])) * frame.height
    assert (x, y) == pytest.approx((12, 30), abs=1e-4)
    assert one["alignment"] == "9"


def test_unity_borders_are_left_bottom_right_top(outside: Outside, tmp_path: Path) -> None:
    border = sprites_of(outside, tmp_path, cast_sheet("unity"))["button"]["border"]
    assert border == {"x": "5", "y": "8", "z": "7", "w": "6"}


def test_a_name_of_digits_stays_a_name_in_unity() -> None:
    sheet = pack([sprite("007"), sprite("true"), sprite("1e5")], SheetSpec(formats=("unity",)))
    importer = yaml.safe_load(files(sheet)["sheet.png.meta"])["TextureImporter"]
    assert [one["name"] for one in importer["spriteSheet"]["sprites"]] == ["007", "true", "1e5"]


def test_unity_ids_stay_when_a_sheet_is_made_again_with_more_in_it(
    outside: Outside, tmp_path: Path
) -> None:
    spec = SheetSpec(formats=("unity",))
    before = sprites_of(outside, tmp_path, pack(CAST[:3], spec, "hero"))
    after = sprites_of(outside, tmp_path, pack(CAST, spec, "hero"))
    for name, one in before.items():
        assert after[name]["internalID"] == one["internalID"]
        assert after[name]["spriteID"] == one["spriteID"]


def test_two_sheets_of_one_name_have_their_own_guids(outside: Outside, tmp_path: Path) -> None:
    spec = SheetSpec(formats=("unity",))
    guids = {
        read_meta(outside, tmp_path / "m", files(pack(CAST, spec, key))["sheet.png.meta"])["guid"]
        for key in ("hero", "villain")
    }
    assert len(guids) == 2


def test_a_nine_slice_of_texturepacker_has_its_middle_named() -> None:
    sheet = pack([sprite("box", 20, 10, borders=Borders(1, 2, 3, 4))], SheetSpec())
    frame = json.loads(files(sheet)["sheet.json"])["frames"]["box"]
    assert frame["scale9Borders"] == {"x": 1, "y": 2, "w": 16, "h": 4}


def test_a_clip_over_two_pages_is_in_no_page_of_the_hash() -> None:
    """PixiJS would fill it with frames that are undefined."""
    clip = {"name": "walk", "frames": ("a", "b"), "fps": 5}
    spec = SheetSpec.model_validate({"max_size": 16, "clips": [clip]})
    content = files(pack([sprite("a", 16, 16), sprite("b", 16, 16)], spec))
    assert json.loads(content["sheet_0.json"])["animations"] == {}
    assert "walk" in json.loads(content["sheet.anims.json"])["anims"][0]["key"]


def test_a_tile_collection_holds_the_sprites_as_they_came() -> None:
    sheet = cast_sheet("tiled")
    names = {path for path in files(sheet) if path.startswith("sheet_tiles/")}
    assert names == {f"sheet_tiles/{frame.name}.png" for frame in sheet.frames}
    assert all(
        same(whole(frame), one.pixels) for frame, one in zip(sheet.frames, CAST, strict=True)
    )
