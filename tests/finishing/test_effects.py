"""The list of effects: what is read, how mistakes are named, and what a client may know."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import numpy as np
import pytest
from pydantic import TypeAdapter

from serve_app.errors import InvalidField
from serve_app.finishing.base import ModelEffect
from serve_app.finishing.effects import (
    KINDS,
    MOST_EFFECTS,
    Effects,
    catalogue,
    parse_effects,
    with_palettes,
)
from serve_app.finishing.finish import finish
from serve_app.finishing.palette import PaletteEffect
from serve_app.finishing.palette_files import Palette
from serve_app.finishing.picture import Picture
from tests.finishing.sprites import sprite

every_kind = pytest.mark.parametrize("entry", catalogue(), ids=list(KINDS))


def refused(value: object) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        parse_effects(value)
    return caught.value


def test_every_operation_of_the_design_is_there() -> None:
    assert set(KINDS) == {
        "cutout", "trim", "pad", "canvas", "scale", "upscale", "pixelate", "palette", "outline", "shadow",
        "bleed", "seam", "nine_slice", "normal_map", "pivot", "flip", "rotate",
    }  # fmt: skip


@every_kind
def test_an_example_is_accepted_and_fits_its_schema(entry: dict[str, Any]) -> None:
    (effect,) = parse_effects([entry["example"]])
    assert effect.op == entry["op"]
    jsonschema.Draft202012Validator.check_schema(entry["schema"])
    jsonschema.validate(entry["example"], entry["schema"])


@every_kind
def test_an_operation_is_described_by_a_sentence(entry: dict[str, Any]) -> None:
    assert entry["title"][0].isupper()
    assert entry["title"].endswith(".")


@every_kind
def test_an_effect_survives_being_stored(entry: dict[str, Any]) -> None:
    effects = parse_effects([entry["example"]])
    assert parse_effects([effect.model_dump(mode="json") for effect in effects]) == effects


def test_colours_survive_being_stored_in_a_model() -> None:
    """As the order's own fields: a tuple of effects, to JSON and back."""
    adapter = TypeAdapter(Effects)
    effects = parse_effects(
        [{"op": "palette", "colors": ["#000000", "#ffffff"]}, {"op": "palette", "colors": 4}]
    )
    assert adapter.validate_json(adapter.dump_json(effects)) == effects


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (2, 2), (5, 33)])
@pytest.mark.parametrize("alpha", ["opaque", "clear", "mixed"])
@pytest.mark.parametrize("op", sorted(set(KINDS) - {"upscale", "pixelate"}))
def test_tiny_pictures_go_through_every_effect(op: str, alpha: str, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 4), dtype=np.uint8)
    if alpha != "mixed":
        pixels[..., 3] = 255 if alpha == "opaque" else 0
    assert finish(Picture(pixels), [KINDS[op].example]).picture.pixels.size


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (30, 3), (24, 24)])
def test_tiny_pictures_can_be_searched_for_a_grid(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 4), dtype=np.uint8)
    assert finish(Picture(pixels), [{"op": "pixelate"}]).notes[0][0].code == "no_grid"


@pytest.mark.parametrize("op", sorted(set(KINDS) - {"upscale"}))
def test_an_example_can_be_applied(op: str) -> None:
    picture = sprite(128, noise=2).drawn
    done = finish(picture, [KINDS[op].example])
    assert done.picture.pixels.shape[2] == 4


def test_an_unknown_operation_names_its_place_and_what_there_is() -> None:
    error = refused([{"op": "trim"}, {"op": "sharpen"}])
    assert error.field == "effects.1.op"
    assert error.allowed == list(KINDS)


@pytest.mark.parametrize("entry", [{}, {"op": 3}, {"op": None}, {"op": ["trim"]}])
def test_an_effect_without_an_operation_is_refused(entry: object) -> None:
    assert refused([entry]).field == "effects.0.op"


@pytest.mark.parametrize("value", [None, "trim", {"op": "trim"}, 3])
def test_what_is_no_list_is_refused(value: object) -> None:
    assert refused(value).field == "effects"


def test_an_effect_that_is_no_object_is_refused() -> None:
    assert refused([{"op": "trim"}, "cutout"]).field == "effects.1"


def test_an_unknown_field_names_operation_and_fields() -> None:
    error = refused([{"op": "trim", "margin": 4}])
    assert error.field == "effects.0.trim.margin"
    assert error.allowed == ["padding", "threshold"]


@pytest.mark.parametrize(
    ("entry", "field", "allowed"),
    [
        ({"op": "pixelate", "width": 0}, "pixelate.width", ["1 to 1024"]),
        ({"op": "pixelate", "width": 10_000}, "pixelate.width", ["1 to 1024"]),
        ({"op": "scale", "factor": 0}, "scale.factor", ["more than 0 to 32"]),
        ({"op": "scale", "factor": 2, "filter": "cubic"}, "scale.filter",
         ["nearest", "lanczos", "epx"]),
        ({"op": "rotate", "degrees": 45}, "rotate.degrees", [90, 180, 270]),
        ({"op": "rotate"}, "rotate.degrees", [90, 180, 270]),
        ({"op": "outline", "color": "red"}, "outline.color", ["string"]),
        ({"op": "palette", "colors": 1}, "palette.colors", ["2 to 256", "array"]),
        ({"op": "canvas", "width": 1e9, "height": 1}, "canvas.width", ["1 to 8192"]),
    ],
)  # fmt: skip
def test_a_wrong_value_names_its_field_and_what_is_allowed(
    entry: dict[str, Any], field: str, allowed: list[object]
) -> None:
    error = refused([{"op": "flip"}, entry])
    assert error.field == f"effects.1.{field}"
    assert error.allowed == allowed
    assert error.detail


def test_fields_that_do_not_go_together_are_explained() -> None:
    assert refused([{"op": "scale"}]).detail.endswith(
        "give either factor, or width or height or both"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    assert refused([{"op": "shadow", "blur": value}]).field == "effects.0.shadow.blur"


def test_seventeen_effects_are_one_too_many() -> None:
    flips = [{"op": "flip"}] * MOST_EFFECTS
    assert len(parse_effects(flips)) == 16
    error = refused([*flips, {"op": "flip"}])
    assert (error.field, error.allowed) == ("effects", [16])


def test_pixels_may_not_change_after_their_normal_map() -> None:
    error = refused([{"op": "normal_map"}, {"op": "pivot", "anchor": "top"}, {"op": "flip"}])
    assert error.field == "effects.2.op"


def test_a_named_palette_becomes_its_colours() -> None:
    effects = parse_effects([{"op": "flip"}, {"op": "palette", "name": "two"}])
    palettes = {"two": Palette("two", ((0, 0, 0), (255, 0, 16)))}
    _, effect = with_palettes(effects, palettes)
    assert isinstance(effect, PaletteEffect)
    assert (effect.name, effect.colors) == ("two", ("#000000", "#ff0010"))
    assert with_palettes((effect,), {}) == (effect,)  # looked up once


def test_an_unknown_palette_names_those_there_are() -> None:
    palettes = {name: Palette(name, ()) for name in ("b", "a")}
    with pytest.raises(InvalidField) as caught:
        with_palettes(parse_effects([{"op": "palette", "name": "x"}]), palettes)
    assert caught.value.field == "effects.0.palette.name"
    assert caught.value.allowed == ["a", "b"]


def test_parsing_leaves_the_order_as_it_was() -> None:
    order = [{"op": "palette", "colors": ["#000000"]}, {"op": "trim", "padding": 2}]
    before = copy.deepcopy(order)
    parse_effects(order)
    assert order == before


def test_only_effects_with_models_ask_for_weights() -> None:
    assert {op for op, kind in KINDS.items() if issubclass(kind, ModelEffect)} == {
        "cutout",
        "upscale",
    }


@every_kind
def test_an_effect_never_writes_to_its_picture(entry: dict[str, Any]) -> None:
    if entry["op"] == "upscale":
        return
    picture = sprite(64).drawn
    before = picture.pixels.copy()
    parse_effects([entry["example"]])[0].apply(picture)
    assert np.array_equal(picture.pixels, before)
