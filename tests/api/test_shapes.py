"""Texts of a certain shape, and what people are told of what a field may be."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel, ValidationError

from serve_app.api.schemas import GenerateRequest
from serve_app.api.shapes import PRINTABLE, Size, Tag, allowed_values, shaped


class Body(BaseModel):
    size: Size = "1x1"
    tag: Tag = "a"
    key: Annotated[str, *shaped(PRINTABLE)] = "a"


@pytest.mark.parametrize(
    ("field", "good", "wrong"),
    [
        ("size", ["128x128", "1x999999"], ["128", "128x", "128 x 128", "-1x1", "128x128\n"]),
        ("tag", ["level-3", "a/b:c.d_e", "x" * 64], ["", "a b", "ä", "x" * 65]),
        ("key", ["a b!", "~" * 255], ["", "ä", "a\tb", "a" * 256]),
    ],
)
def test_the_whole_text_must_have_the_shape(field: str, good: list[str], wrong: list[str]) -> None:
    for text in good:
        assert getattr(Body.model_validate({field: text}), field) == text
    for text in wrong:
        with pytest.raises(ValidationError, match="Should be"):
            Body.model_validate({field: text})


@pytest.mark.parametrize(
    ("field", "allowed"),
    [
        ("seed", ["integer from -1 to 4294967295", "null"]),
        ("quality", ["full", "draft"]),
        ("guidance_scale", ["number of at least 0", "null"]),
        ("size", ["WIDTHxHEIGHT in pixels, as in 128x128", "null"]),
        ("tags", ["a list of 1 to 64 letters, digits and `_ . : / -`"]),
        ("nothing", None),
    ],
)
def test_allowed_values_are_read_from_the_schema(field: str, allowed: list[str] | None) -> None:
    assert allowed_values(GenerateRequest, [field]) == allowed
