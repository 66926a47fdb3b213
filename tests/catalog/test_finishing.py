"""Effects and gates of orders and styles: which are taken, and what is said of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve_app.catalog.finishing import resolve_effects, resolve_finishing, resolve_require
from serve_app.catalog.models import load_models
from serve_app.catalog.styles import load_styles, refuse_unknown_palettes
from serve_app.errors import ConfigError, InvalidField
from serve_app.finishing.base import Weights
from serve_app.finishing.effects import catalogue
from serve_app.finishing.palette_files import load_palettes
from serve_app.params import Finishing

CONFIGS = Path(__file__).parents[2] / "configs"
PALETTES = load_palettes(CONFIGS / "palettes")


def test_colours_of_a_named_palette_are_filled_in() -> None:
    """So that a file changed later changes no accepted order."""
    (effect,) = resolve_effects([{"op": "palette", "name": "gameboy_4"}], PALETTES)
    assert effect["colors"] == PALETTES["gameboy_4"].hex
    assert resolve_effects([effect], {}) == (effect,)


@pytest.mark.parametrize(
    ("effects", "field", "allowed"),
    [
        ([{"op": "explode"}], "effects.0.op", "cutout"),
        ([{"op": "trim"}, {"op": "trim", "pading": 2}], "effects.1.trim.pading", "padding"),
        ([{"op": "flip"}] * 17, "effects", 16),
        ([{"op": "pixelate", "width": 0}], "effects.0.pixelate.width", "1 to 1024"),
        ([{"op": "pixelate", "width": 10_000}], "effects.0.pixelate.width", "1 to 1024"),
        ([{"op": "palette", "name": "nope"}], "effects.0.palette.name", "gameboy_4"),
        ([{"op": "cutout", "method": "network"}], "effects.0.cutout.method", "matte"),
        ([{"op": "upscale", "model": "x"}], "effects.0.op", "scale"),
        (["trim"], "effects.0", "trim"),
    ],
)
def test_a_wrong_effect_names_op_and_field_and_what_is_allowed(
    effects: list[Any], field: str, allowed: object
) -> None:
    with pytest.raises(InvalidField) as caught:
        resolve_effects(effects, PALETTES)
    assert caught.value.field == field
    assert allowed in (caught.value.allowed or [])


def test_what_a_server_has_of_learned_models_may_be_ordered() -> None:
    """And nothing else."""
    weights = Weights(matting=Path("m.onnx"), upscalers={"anime_x2": Path("anime_x2.safetensors")})
    wanted = [{"op": "cutout", "method": "network"}, {"op": "upscale", "model": "anime_x2"}]
    assert resolve_effects(wanted, PALETTES, weights=weights) == tuple(wanted)
    with pytest.raises(InvalidField) as caught:
        resolve_effects([{"op": "upscale", "model": "x"}], PALETTES, weights=weights)
    assert caught.value.field == "effects.0.upscale.model"
    assert caught.value.allowed == ["anime_x2"]


@pytest.mark.parametrize(
    ("require", "field"),
    [
        ({"beauty": 9}, "require.beauty"),
        ({"seam": 0}, "require.seam"),
        ({"coverage": {"min": 2}}, "require.coverage.min"),
        ({"coverage": {"least": 0.5}}, "require.coverage.least"),
        ({"coverage": {"min": 0.9, "max": 0.1}}, "require.coverage"),
        ({"seam": float("nan")}, "require.seam"),
    ],
)
def test_a_wrong_gate_is_named(require: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        resolve_require(require)
    assert caught.value.field == field


def test_nothing_asked_for_is_nothing_done() -> None:
    assert resolve_finishing([], None, 0, "fail", "png", {}) is None
    assert resolve_finishing([], {}, 0, "keep", "png", {}) is None
    assert resolve_finishing([], None, 0, "keep", "webp", {}) == Finishing(format="webp")


@pytest.mark.parametrize(("redraws", "require"), [(1, None), (1, {}), (9, {"not_blank": True})])
def test_redraws_need_gates_and_an_end(redraws: int, require: Any) -> None:
    with pytest.raises(InvalidField, match="redraws"):
        resolve_finishing([], require, redraws, "keep", "png", {})


def test_every_example_of_the_catalogue_is_accepted() -> None:
    able = [entry["example"] for entry in catalogue() if entry["op"] != "upscale"]
    for example in able:
        assert resolve_effects([example], PALETTES)[0]["op"] == example["op"]


def test_the_styles_of_the_project_finish_what_they_draw() -> None:
    styles = load_styles(CONFIGS / "styles.yaml", load_models(CONFIGS / "models.yaml"))
    refuse_unknown_palettes(styles, PALETTES)
    for name in ("icon", "item", "weapon", "prop", "creature", "food", "vehicle", "character"):
        assert [effect["op"] for effect in styles[name].effects][:2] == ["cutout", "trim"]
    for name, size in ("pixel_icon", 32), ("pixel_character", 64):
        assert {"op": "pixelate", "width": size, "height": size} in styles[name].effects
    for name in ("tile", "texture"):
        assert styles[name].require is not None
        assert styles[name].redraws > 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("effects: [{op: explode}]", "no effect 'explode'"),
        ("require: {beauty: 1}", "no such gate"),
        ("redraws: 1", "give `require` too"),
    ],
)
def test_a_style_that_cannot_be_finished_is_refused_with_its_line(
    tmp_path: Path, line: str, says: str
) -> None:
    path = tmp_path / "styles.yaml"
    path.write_text(f'styles:\n  icon:\n    template: "{{prompt}}"\n    {line}\n')
    with pytest.raises(ConfigError) as caught:
        load_styles(path, load_models(CONFIGS / "models.yaml"))
    assert says in caught.value.detail
    assert ":4" in caught.value.detail or "line 4" in caught.value.detail


def test_a_style_with_an_unknown_palette_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "styles.yaml"
    path.write_text(
        'styles:\n  icon:\n    template: "{prompt}"\n    effects: [{op: palette, name: nope}]\n'
    )
    styles = load_styles(path, load_models(CONFIGS / "models.yaml"))
    with pytest.raises(ConfigError, match=r"style icon: .*no palette 'nope'"):
        refuse_unknown_palettes(styles, PALETTES)
