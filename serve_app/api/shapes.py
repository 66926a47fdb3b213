"""Texts of a certain shape, in bodies and in headers, and what people are told of what a field may be.

Knows patterns and JSON Schema; not which body or route has which field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
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


Path = Sequence[str | int]
"""From a body to one of its fields: names, and places in lists."""


def allowed_values(body: type[BaseModel], path: Path) -> list[object] | None:
    """What a field of a body may be, as text, as far as its JSON Schema says."""
    branches = [branch for node in _nodes(body, path) for branch in node.get("anyOf", [node])]
    allowed = [text for branch in branches for text in _spelled(branch)]
    return allowed or None


def fields_at(body: type[BaseModel], path: Path) -> list[str]:
    """The fields that an object in a body may have."""
    return sorted({name for node in _nodes(body, path) for name in node.get("properties", {})})


@cache
def _schema_of(body: type[BaseModel]) -> dict[str, Any]:
    return body.model_json_schema()


def _nodes(body: type[BaseModel], path: Path) -> list[dict[str, Any]]:
    """The parts of the body's schema that speak of that place: several, where one of several shapes may
    stand. A part of the path that names such a shape chooses it."""
    schema = _schema_of(body)

    def opened(node: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in node:
            return opened(schema["$defs"][node["$ref"].rpartition("/")[2]])
        inner = node.get("oneOf") or node.get("anyOf")
        return [one for part in inner for one in opened(part)] if inner else [node]

    def chosen(node: dict[str, Any], part: str) -> list[dict[str, Any]]:
        reference = node.get("discriminator", {}).get("mapping", {}).get(part)
        return [{"$ref": reference}] if reference else []

    nodes = [schema]
    for part in path:
        if isinstance(part, int):
            nodes = [one["items"] for node in nodes for one in opened(node) if "items" in one]
        else:
            found = [one for node in nodes for one in chosen(node, part)]
            nodes = found or [
                one["properties"][part]
                for node in nodes
                for one in opened(node)
                if part in one.get("properties", {})
            ]
    return [one for node in nodes for one in opened(node)]


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
