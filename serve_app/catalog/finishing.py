"""What is done with pictures after they are drawn: the wish of an order or a style becomes `Finishing`.

Knows palettes and which effects this server can run; nothing of HTTP, nor of what an effect does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from serve_app.errors import InvalidField
from serve_app.finishing.base import NO_WEIGHTS, Weights
from serve_app.finishing.effects import Effects, parse_effects, with_palettes
from serve_app.finishing.palette_files import Palette
from serve_app.finishing.require import Require, Share
from serve_app.params import MAX_REDRAWS, Finishing

OnFail = Literal["keep", "fail"]
Format = Literal["png", "webp"]


def resolve_effects(
    value: object,
    palettes: Mapping[str, Palette],
    field: str = "effects",
    *,
    weights: Weights = NO_WEIGHTS,
) -> tuple[dict[str, Any], ...]:
    """Checked, with the colours of named palettes filled in. `weights`: of this server's learned models.
    Raises InvalidField."""
    effects = with_palettes(parse_effects(value, field), palettes, field)
    _refuse_without_weights(effects, field, weights)
    return tuple(
        effect.model_dump(mode="json", exclude_defaults=True) | {"op": effect.op}
        for effect in effects
    )


def resolve_require(value: object, field: str = "require") -> dict[str, Any] | None:
    """The gates that are set; None: there are none. Raises InvalidField, which names the gate."""
    if value is None:
        return None
    try:
        require = Require.model_validate(value)
    except ValidationError as error:
        raise _explained(error, field) from error
    return require.model_dump(mode="json", exclude_defaults=True) or None


def resolve_finishing(
    effects: object,
    require: object,
    redraws: int,
    on_fail: OnFail,
    format: Format,
    palettes: Mapping[str, Palette],
    weights: Weights = NO_WEIGHTS,
) -> Finishing | None:
    """None: a picture stays as it was drawn. Raises InvalidField."""
    found = Finishing(
        effects=resolve_effects(effects, palettes, weights=weights),
        require=resolve_require(require),
        redraws=_redraws(redraws, require),
        on_fail=on_fail,
        format=format,
    )
    plain = not found.effects and found.require is None and found.format == "png"
    return None if plain else found


def _redraws(redraws: int, require: object) -> int:
    if not 0 <= redraws <= MAX_REDRAWS:
        raise InvalidField("redraws", f"{redraws} is out of range", [f"0 to {MAX_REDRAWS}"])
    if redraws and not require:
        raise InvalidField(
            "redraws", "nothing says which pictures to draw again: give `require` too", [0]
        )
    return redraws


def _refuse_without_weights(effects: Effects, field: str, weights: Weights) -> None:
    """Effects that ask a learned model which this server does not have."""
    for i, effect in enumerate(effects):
        if effect.op == "upscale" and not weights.upscalers:
            raise InvalidField(
                f"{field}.{i}.op", "this server has no model that upscales", ["scale"]
            )
        if effect.op == "upscale" and effect.model not in weights.upscalers:
            text = f"no such model: {effect.model!r}"
            raise InvalidField(f"{field}.{i}.upscale.model", text, sorted(weights.upscalers))
        if effect.op == "cutout" and effect.method == "network" and weights.matting is None:
            text = "this server has no matting network"
            raise InvalidField(f"{field}.{i}.cutout.method", text, ["auto", "matte"])


def _explained(error: ValidationError, field: str) -> InvalidField:
    first = error.errors(include_url=False)[0]
    where = ".".join([field, *(str(part) for part in first["loc"])])
    allowed: Sequence[object] | None = None
    if first["type"] == "extra_forbidden":
        of: type[Require] | type[Share] = Require if len(first["loc"]) == 1 else Share
        return InvalidField(where, "there is no such gate", list(of.model_fields))
    context = first.get("ctx", {})
    limits = {key: context[key] for key in ("ge", "gt", "le", "lt") if key in context}
    if limits:
        allowed = [f"{key} {value}" for key, value in limits.items()]
    return InvalidField(where, first["msg"].removeprefix("Value error, "), allowed)
