"""The manifest of an archive: what spreadsheets and programs read, and what they must not run."""

from __future__ import annotations

import csv
import io
import json

import pytest

from serve_app.delivery.manifest import COLUMNS, Manifest, guarded


def written(*rows: dict[str, object]) -> dict[str, bytes]:
    with Manifest({"batch_id": "b", "name": "potions"}) as manifest:
        manifest.open()
        for row in rows:
            manifest.add(**row)
        return {name: b"".join(pieces) for name, pieces in manifest.parts()}


def test_both_say_the_same() -> None:
    found = written(
        {"row": 1, "file": "a.png", "prompt": 'grün, "rot"', "seed": 7, "reused": True},
        {"row": 2, "status": "FAILURE", "code": "non_finite"},
    )
    said = json.loads(found["manifest.json"])
    assert (said["batch_id"], said["name"]) == ("b", "potions")
    assert [row["row"] for row in said["rows"]] == [1, 2]
    assert said["rows"][1]["file"] is None
    lines = [*csv.DictReader(io.StringIO(found["manifest.csv"].decode("utf-8-sig")))]
    assert lines[0]["prompt"] == said["rows"][0]["prompt"] == 'grün, "rot"'
    assert list(lines[0]) == list(said["rows"][0]) == [*COLUMNS]
    assert (lines[1]["code"], lines[1]["file"]) == ("non_finite", "")


def test_one_without_rows_is_json_too() -> None:
    assert json.loads(written()["manifest.json"])["rows"] == []


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_a_formula(start: str) -> None:
    prompt = f"{start}cmd|' /C calc'!A0"
    (line,) = csv.DictReader(
        io.StringIO(written({"row": 1, "prompt": prompt})["manifest.csv"].decode("utf-8-sig"), "")
    )
    assert line["prompt"] == f"'{prompt}"
    assert guarded(-1) == -1, "a number is none"
