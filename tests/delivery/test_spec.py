"""SheetSpec: every wrong field is named, with what would have been right."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.delivery.spec import FORMATS, SheetSpec, spec_of
from serve_app.errors import InvalidField

WALK = {"name": "walk", "frames": ["a"], "fps": 12}


def refused(values: dict[str, Any]) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        spec_of(values)
    return caught.value


def test_an_empty_spec_is_one_texturepacker_sheet() -> None:
    assert spec_of({}).formats == ("texturepacker_hash",)


def test_an_unknown_format_names_those_there_are() -> None:
    error = refused({"formats": ["godot", "flash"]})
    assert error.field == "formats.1"
    assert error.allowed == list(FORMATS)


def test_an_unknown_field_names_those_there_are() -> None:
    error = refused({"rotate": True})
    assert error.field == "rotate"
    assert error.allowed == list(SheetSpec.model_fields)


def test_an_unknown_field_of_a_clip_names_those_there_are() -> None:
    error = refused({"clips": [{**WALK, "speed": 3}]})
    assert error.field == "clips.0.speed"
    assert error.allowed is not None
    assert "fps" in error.allowed


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"formats": []}, "formats"),
        ({"formats": ["css", "css"]}, "formats"),
        ({"padding": -1}, "padding"),
        ({"padding": 65}, "padding"),
        ({"extrude": 17}, "extrude"),
        ({"max_size": 15}, "max_size"),
        ({"max_size": 100_000}, "max_size"),
        ({"pixels_per_unit": 0}, "pixels_per_unit"),
        ({"name": "../sheet"}, "name"),
        ({"clips": [{**WALK, "fps": 0}]}, "clips.0.fps"),
        ({"clips": [{**WALK, "fps": -1}]}, "clips.0.fps"),
        ({"clips": [{**WALK, "fps": float("nan")}]}, "clips.0.fps"),
        ({"clips": [{**WALK, "fps": float("inf")}]}, "clips.0.fps"),
        ({"clips": [{**WALK, "frames": []}]}, "clips.0.frames"),
        ({"clips": [{**WALK, "frames": ["a"] * 1001}]}, "clips.0.frames"),
        ({"clips": [{**WALK, "name": "a b"}]}, "clips.0.name"),
        ({"clips": [{"name": "walk", "frames": ["a"]}]}, "clips.0.fps"),
        ({"clips": [WALK] * 201}, "clips"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], field: str) -> None:
    assert refused(values).field == field


def test_a_bound_is_part_of_the_message() -> None:
    assert "64" in refused({"padding": 65}).detail
