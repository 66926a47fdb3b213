"""Texts of a certain shape, in bodies and in headers, and what people are told of what a field may be.

Knows patterns and JSON Schema; not which body or route has which field.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, WithJsonSchema
from pydantic_core import PydanticCustomError

SIZE = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")
TAG = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
PRINTABLE = re.compile(r"[\x20-\x7e]{1,255}")
IN_WORDS = {
    SIZE.pattern: "WIDTHxHEIGHT in pixels, as in 128x128",
    TAG.pattern: "1 to 64 letters, digits and `_ . : / -`",
    PRINTABLE.pattern: "1 to 255 characters of printable ASCII",
}
"""What people are told of a pattern. Programs read the pattern itself in the JSON Schema."""


def shaped(pattern: re.Pattern[str]) -> tuple[AfterValidator, WithJsonSchema]:
    """Validator and schema of a text that must match the whole pattern."""
    shape = IN_WORDS[pattern.pattern]

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise PydanticCustomError("shape", "Should be {shape}", {"shape": shape})
        return text

    schema = {"type": "string", "pattern": f"^{pattern.pattern}$"}
    return AfterValidator(check), WithJsonSchema(schema)


Size = Annotated[str, *shaped(SIZE)]
Tag = Annotated[str, *shaped(TAG)]


def allowed_values(body: type[BaseModel], field: str) -> list[object] | None:
    """What `field` of a body may be, as text, as far as its JSON Schema says."""
    schema: dict[str, Any] = body.model_json_schema()["properties"].get(field, {})
    allowed = [text for branch in schema.get("anyOf", [schema]) for text in _spelled(branch)]
    return allowed or None


def _spelled(branch: dict[str, Any]) -> list[object]:
    if "const" in branch:
        return [branch["const"]]
    if "enum" in branch:
        return list(branch["enum"])
    if "items" in branch:
        return [f"a list of {text}" for text in _spelled(branch["items"])]
    if "pattern" in branch:
        return [IN_WORDS[branch["pattern"][1:-1]]]
    text: str = branch.get("type", "")
    low, high = branch.get("minimum"), branch.get("maximum")
    if low is not None:
        text += f" of at least {low}" if high is None else f" from {low} to {high}"
    return [text] if text else []
