"""The ZIP: the same bytes for the same sprites, all files, and a manifest that tells the truth."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

from serve_app.delivery.archive import MANIFEST, files, zipped
from serve_app.delivery.sheet import pack
from serve_app.delivery.spec import FORMATS, spec_of
from tests.delivery.art import CAST, cast_sheet, decode, same, sprite


def test_equal_sprites_give_equal_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from serve_app.delivery.archive import files, zipped;"
        "from serve_app.delivery.spec import FORMATS; from tests.delivery.art import cast_sheet;"
        "print(hashlib.sha256(zipped(files(cast_sheet(*FORMATS)))).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = hashlib.sha256(zipped(files(cast_sheet(*FORMATS)))).hexdigest()
    assert done.stdout.strip() == here


def test_a_zip_holds_every_file_as_it_is() -> None:
    content = files(cast_sheet(*FORMATS))
    with zipfile.ZipFile(io.BytesIO(zipped(content))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == content


def test_no_path_leaves_the_folder_it_is_unpacked_in() -> None:
    for path in files(cast_sheet(*FORMATS)):
        assert not path.startswith("/")
        assert ".." not in Path(path).parts
        assert "\\" not in path


def test_the_manifest_lists_every_other_file_with_size_and_hash() -> None:
    content = files(cast_sheet(*FORMATS))
    listed = {one["path"]: one for one in json.loads(content[MANIFEST])["files"]}
    assert set(listed) == set(content) - {MANIFEST}
    for path, one in listed.items():
        assert one["size_bytes"] == len(content[path])
        assert one["sha256"] == hashlib.sha256(content[path]).hexdigest()


def test_sprites_can_be_had_back_from_the_manifest_and_the_pages_alone() -> None:
    content = files(cast_sheet("css", max_size=64))
    for one, frame in zip(CAST, json.loads(content[MANIFEST])["frames"], strict=True):
        page = decode(content[frame["page"]])
        x, y, width, height = (frame[key] for key in ("x", "y", "width", "height"))
        back = one.pixels * 0
        back[frame["trim_y"] :, frame["trim_x"] :][:height, :width] = page[y:, x:][:height, :width]
        assert same(back, one.pixels)


def test_clips_with_their_rates_are_in_the_manifest() -> None:
    spec = json.loads(files(cast_sheet("css"))[MANIFEST])["spec"]
    assert [(clip["name"], clip["fps"]) for clip in spec["clips"]] == [("walk", 12), ("land", 7.5)]


def test_a_clip_that_formats_leave_out_is_noted() -> None:
    clip = {"name": "walk", "frames": ["a", "b"], "fps": 5}
    spec = spec_of({"max_size": 16, "clips": [clip]})
    content = files(pack([sprite("a", 16, 16), sprite("b", 16, 16)], spec))
    [note] = json.loads(content[MANIFEST])["notes"]
    assert note.startswith("clip_over_pages: walk ")


def test_a_sheet_of_one_page_has_nothing_to_note() -> None:
    assert json.loads(files(cast_sheet("css"))[MANIFEST])["notes"] == []
