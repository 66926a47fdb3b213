"""Bodies of OpenAI's edits: a form with files, all other values as text.

Knows forms and names of fields; nothing of what a picture is.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from serve_app.api.dialects.openai_bodies import ImagesRequest
from serve_app.api.schemas import GenerateRequest
from serve_app.errors import InvalidField

IMAGES = ("image", "image[]")
MOST_FILES, MOST_FIELDS = 17, 64
FORM: dict[str, Any] = {
    "schema": {
        "type": "object",
        "required": ["image", "prompt"],
        "properties": {
            "image": {"type": "string", "format": "binary"},
            "mask": {"type": "string", "format": "binary"},
            "prompt": {"type": "string"},
        },
        "additionalProperties": True,
    }
}


class FormFile(NamedTuple):
    field: str  # as the form calls it
    data: bytes


async def edit_of(request: Request) -> tuple[ImagesRequest, dict[str, FormFile]]:
    """The body without its files, and the file for each field of an order that names a picture. Raises
    RequestValidationError, InvalidField, HTTPException."""
    async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS) as form:
        fields: dict[str, Any] = {}
        found: list[tuple[str, UploadFile]] = []
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                found.append((name, value))
            else:
                fields[name] = _value(name, value)
        files = _chosen(found)
        read = {field: FormFile(name, await file.read()) for field, (name, file) in files.items()}
    try:
        return ImagesRequest.model_validate(fields), read
    except ValidationError as error:
        wrong = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(wrong) from None


def _chosen(found: list[tuple[str, UploadFile]]) -> dict[str, tuple[str, UploadFile]]:
    images = [(name, file) for name, file in found if name in IMAGES]
    masks = [(name, file) for name, file in found if name == "mask"]
    others = [name for name, _ in found if name not in (*IMAGES, "mask")]
    if others:
        raise InvalidField(others[0], "no such file", ["image", "mask"])
    if len(images) != 1:
        raise InvalidField("image", f"{len(images)} pictures came; one can be drawn from")
    if len(masks) > 1:
        raise InvalidField("mask", f"{len(masks)} came, and one counts")
    return {"init_image": images[0]} | ({"mask_image": masks[0]} if masks else {})


def _value(name: str, text: str) -> Any:
    """Of a field of our own order, which knows numbers and lists; OpenAI's are read from text."""
    if name in ImagesRequest.model_fields or name not in GenerateRequest.model_fields:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
