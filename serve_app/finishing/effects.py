"""Effect: every operation there is, how a list of them is read, and what a client may know of each.

Knows nothing of what they do to a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias, cast, get_args

from pydantic import Field, TypeAdapter, ValidationError

from serve_app.errors import InvalidField
from serve_app.finishing.base import BaseEffect
from serve_app.finishing.bleed import Bleed
from serve_app.finishing.cutout import Cutout
from serve_app.finishing.frame import Canvas, Pad, Trim
from serve_app.finishing.nine_slice import NineSlice
from serve_app.finishing.normal_map import NormalMap
from serve_app.finishing.outline import Outline
from serve_app.finishing.palette import PaletteEffect
from serve_app.finishing.palette_files import Palette
from serve_app.finishing.pivot import Pivot
from serve_app.finishing.pixelate import Pixelate
from serve_app.finishing.scale import Scale
from serve_app.finishing.seam import Seam
from serve_app.finishing.shadow import Shadow
from serve_app.finishing.turn import Flip, Rotate
from serve_app.finishing.upscale import Upscale

MOST_EFFECTS = 16

Effect: TypeAlias = Annotated[
    Cutout | Trim | Pad | Canvas | Scale | Upscale | Pixelate | PaletteEffect | Outline | Shadow
    | Bleed | Seam | NineSlice | NormalMap | Pivot | Flip | Rotate,
    Field(discriminator="op"),
]  # fmt: skip
Effects: TypeAlias = tuple[Effect, ...]

KINDS: Mapping[str, type[BaseEffect]] = {
    kind.model_fields["op"].default: kind for kind in get_args(get_args(Effect)[0])
}
_ADAPTER: TypeAdapter[Effect] = TypeAdapter(Effect)
_AFTER_NORMAL_MAP = {"pivot", "nine_slice", "bleed"}


def parse_effects(value: object, field: str = "effects") -> Effects:
    """A list as it came in JSON. Raises InvalidField, which names position, op and field, and says what
    is allowed there."""
    if not isinstance(value, list | tuple):
        raise InvalidField(field, "this is a list of effects, each an object with `op`")
    entries = cast("Sequence[object]", value)
    if len(entries) > MOST_EFFECTS:
        raise InvalidField(
            field, f"{len(entries)} effects; at most {MOST_EFFECTS} are allowed", [MOST_EFFECTS]
        )
    effects = tuple(_parsed(entry, f"{field}.{i}") for i, entry in enumerate(entries))
    _check_order(effects, field)
    return effects


def with_palettes(
    effects: Effects, palettes: Mapping[str, Palette], field: str = "effects"
) -> Effects:
    """The same list with the colours of named palettes filled in, so that a file changed later changes
    no accepted order. Raises InvalidField for an unknown name."""
    resolved: list[Effect] = []
    for i, effect in enumerate(effects):
        if isinstance(effect, PaletteEffect) and effect.name is not None and effect.colors is None:
            palette = palettes.get(effect.name)
            if palette is None:
                raise InvalidField(
                    f"{field}.{i}.palette.name", f"no palette {effect.name!r}", sorted(palettes)
                )
            effect = effect.model_copy(update={"colors": tuple(palette.hex)})
        resolved.append(effect)
    return tuple(resolved)


def catalogue() -> list[dict[str, Any]]:
    """For each operation its name, a sentence, an example, and the JSON Schema of its fields."""
    return [
        {
            "op": op,
            "title": " ".join((kind.__doc__ or "").split()),
            "example": dict(kind.example),
            "schema": kind.model_json_schema(),
        }
        for op, kind in KINDS.items()
    ]


def _parsed(entry: object, where: str) -> Effect:
    if isinstance(entry, BaseEffect):
        return cast("Effect", entry)
    if not isinstance(entry, dict):
        raise InvalidField(where, "an effect is an object with `op`", list(KINDS))
    fields = cast("dict[str, object]", entry)
    op = fields.get("op")
    if not isinstance(op, str) or op not in KINDS:
        raise InvalidField(f"{where}.op", f"no effect {op!r}", list(KINDS))
    try:
        return _ADAPTER.validate_python(fields)
    except ValidationError as error:
        raise _explained(error, f"{where}.{op}", KINDS[op]) from error


def _explained(error: ValidationError, where: str, kind: type[BaseEffect]) -> InvalidField:
    """The first thing that is wrong, as a sentence about one field."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][1]) if len(first["loc"]) > 1 else ""
    field = f"{where}.{name}" if name else where
    if first["type"] == "extra_forbidden":
        allowed = [f for f in kind.model_fields if f != "op"]
        return InvalidField(field, f"{kind.model_fields['op'].default} has no such field", allowed)
    detail = first["msg"].removeprefix("Value error, ")
    return InvalidField(field, detail, _allowed(kind, name))


def _allowed(kind: type[BaseEffect], name: str) -> list[object] | None:
    """What a field takes, read from its JSON Schema: listed values, or the bounds as words."""
    schema = kind.model_json_schema()["properties"].get(name)
    if schema is None:
        return None
    found: list[object] = []
    for option in schema.get("anyOf", [schema]):
        if "enum" in option:
            found += option["enum"]
        elif option.get("type") in ("integer", "number"):
            low = option.get("minimum", option.get("exclusiveMinimum"))
            high = option.get("maximum", option.get("exclusiveMaximum"))
            found.append(f"{'more than ' if 'exclusiveMinimum' in option else ''}{low} to {high}")
        elif "type" in option and option["type"] != "null":
            found.append(option["type"])
    return found or None


def _check_order(effects: Effects, field: str) -> None:
    """A normal map belongs to the pixels that were there: nothing may change them afterwards."""
    mapped = False
    for i, effect in enumerate(effects):
        if mapped and effect.op not in _AFTER_NORMAL_MAP:
            raise InvalidField(
                f"{field}.{i}.op",
                f"{effect.op} changes pixels after normal_map was made of them; put it before",
                sorted(_AFTER_NORMAL_MAP),
            )
        mapped = mapped or effect.op == "normal_map"
