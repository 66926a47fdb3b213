"""styles.yaml: what a style gives each model, and how mistakes in the file are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.catalog.loras import LoraSpec
from serve_app.catalog.models import Models, load_models
from serve_app.catalog.styles import (
    NONE,
    Style,
    StyleDefaults,
    StyleForModel,
    StyleLora,
    load_styles,
)
from serve_app.config import PROJECT_ROOT
from serve_app.errors import ConfigError
from tests.factories import model_spec

MODELS = Models(
    {
        "tiny": model_spec(
            native_size=(128, 128), sizes=[(128, 128)], steps=20, max_steps=50, schedulers=["ddim"]
        ),
        "big": model_spec(
            "big",
            family="sdxl",
            native_size=(1024, 1024),
            sizes=[(1024, 1024), (832, 1216)],
            steps=30,
        ),
    },
    "tiny",
)

GOOD = """\
styles:
  icon:
    title: Icon
    template: "{prompt}, icon"
    negative_prompt: text
    defaults: {steps: 30}
    models:
      tiny:
        template: "{prompt}, small"
        negative_prompt: ""
        defaults: {steps: 10}
  hero:
    template: "{prompt}, hero"
    only: [big]
    models:
      big: {defaults: {width: 832, height: 1216, scheduler: euler}}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "styles.yaml"
    path.write_text(text)
    return path


def test_a_style_can_differ_by_model(tmp_path: Path) -> None:
    """An override replaces the values it has, an empty negative prompt too, and keeps the others."""
    icon = load_styles(write(tmp_path, GOOD), MODELS)["icon"]
    assert icon.id == "icon"
    assert (icon.template_for("tiny"), icon.template_for("big")) == (
        "{prompt}, small",
        "{prompt}, icon",
    )
    assert (icon.negative_for("tiny"), icon.negative_for("big")) == ("", "text")
    assert icon.defaults_for("tiny") == StyleDefaults(steps=10)
    assert icon.defaults_for("big") == StyleDefaults(steps=30)


@pytest.mark.parametrize(("line", "default"), [("", "none"), ("default: icon\n", "icon")])
def test_the_file_says_which_style_an_order_gets_that_names_none(
    tmp_path: Path, line: str, default: str
) -> None:
    assert load_styles(write(tmp_path, line + GOOD), MODELS).default == default


def test_words_may_stand_before_the_prompt(tmp_path: Path) -> None:
    """As in nearly every public style file."""
    path = write(tmp_path, GOOD.replace('"{prompt}, icon"', '"an icon of {prompt}, flat"'))
    assert load_styles(path, MODELS)["icon"].template == "an icon of {prompt}, flat"


def test_styles_share_what_they_merge(tmp_path: Path) -> None:
    text = GOOD.replace("  icon:", "  icon: &base").replace(
        "  hero:\n", "  badge:\n    <<: *base\n    negative_prompt: hands\n  hero:\n"
    )
    styles = load_styles(write(tmp_path, text), MODELS)
    assert styles["badge"].template == styles["icon"].template
    assert (styles["badge"].negative_prompt, styles["icon"].negative_prompt) == ("hands", "text")


def test_only_names_the_models_that_can_draw_it(tmp_path: Path) -> None:
    """Without `only`, every model can."""
    styles = load_styles(write(tmp_path, GOOD), MODELS)
    assert [m for m in MODELS if styles["hero"].draws(m)] == ["big"]
    assert [m for m in MODELS if styles["icon"].draws(m)] == ["tiny", "big"]


def test_none_is_always_there(tmp_path: Path) -> None:
    """It adds no words and no defaults."""
    styles = load_styles(write(tmp_path, "styles: {}\n"), MODELS)
    assert list(styles) == ["none"]
    assert (NONE.template, NONE.negative_prompt) == ("{prompt}", "")
    assert NONE.defaults_for("tiny") == StyleDefaults()


LORAS = {
    name: LoraSpec(name, Path(__file__), name, family, ())
    for name, family in (("ink", "sd"), ("oil", "sdxl"), ("any", None))
}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("loras: [{name: nobody}]", ":5: styles.icon.loras.0: no such LoRA: 'nobody'"),
        (
            "loras: [{name: oil}]",
            ":5: styles.icon.loras.0: 'oil' is for sdxl, not for sd (give tiny",
        ),
        ("loras: [{name: any}, {name: any}]", ":5: styles.icon.loras.1: 'any' is there twice"),
        ("loras: [{name: any, weight: 9}]", ":5: styles.icon.loras.0.weight: "),
        ("models: {big: {loras: [{name: ink}]}}", "models.big.loras.0: 'ink' is for sd, not for"),
        ("loras: [{name: any}]\n    models: {tiny: {loras: [{name: ink}]}}", ""),
    ],
)
def test_a_lora_of_a_style_must_fit_every_model_that_draws_it(
    tmp_path: Path, line: str, said: str
) -> None:
    """Or each gets its own; an order would fail on a LoRA that its client never named."""
    text = f'styles:\n  icon:\n    title: Icon\n    template: "{{prompt}}"\n    {line}\n'
    models = Models(MODELS, "tiny", LORAS)
    if not said:
        assert load_styles(write(tmp_path, text), models)["icon"].loras_for("tiny")[0].name == "ink"
        return
    with pytest.raises(ConfigError) as caught:
        load_styles(write(tmp_path, text), models)
    assert said in caught.value.detail


def test_the_revision_changes_exactly_with_what_is_drawn() -> None:
    """Words, defaults, overrides and models count; title, description and YAML spelling do not."""
    style = Style(id="icon", template="{prompt}, icon")
    same = [
        Style(id="icon", template="{prompt}, icon", title="Icon", description="An icon."),
        Style.model_validate({"template": "{prompt}, icon", "id": "icon", "models": {}}),
    ]
    other = [
        style.model_copy(update={"template": "{prompt}, icons"}),
        style.model_copy(update={"negative_prompt": "text"}),
        style.model_copy(update={"defaults": StyleDefaults(steps=3)}),
        style.model_copy(update={"models": {"tiny": StyleForModel(negative_prompt="")}}),
        style.model_copy(update={"only": ["tiny"]}),
        style.model_copy(update={"loras": [StyleLora(name="ink")]}),
        style.model_copy(update={"models": {"tiny": StyleForModel(loras=[])}}),
        style.model_copy(update={"id": "icon2"}),
    ]
    assert {s.revision for s in same} == {style.revision}
    assert len({s.revision for s in [style, *other]}) == len(other) + 1
    assert len(style.revision) == 12


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("negative_prompt: text", "negativ_prompt: text", 5, "did you mean 'negative_prompt'?"),
        ("{steps: 30}", "{stpes: 30}", 6, "did you mean 'steps'?"),
        ("{steps: 10}", "{step: 10}", 11, "did you mean 'steps'?"),
        ("styles:\n", "style:\n", 1, "did you mean 'styles'?"),
        ("{steps: 30}", "{steps: many}", 6, "valid integer"),
        ("{steps: 30}", "{steps: 0}", 6, "greater than or equal to 1"),
        ("{steps: 30}", "{steps: 151}", 6, "big allows at most 150"),
        ("{steps: 10}", "{steps: 51}", 11, "tiny allows at most 50"),
        ("{steps: 30}", "{guidance_scale: 31}", 6, "less than or equal to 30"),
        ("{steps: 30}", "{width: 832, height: 1216}", 6, "832x1216 is not a size of tiny"),
        ("{steps: 30}", "{width: 832}", 6, "(give big its own under `models`)"),
        ("{steps: 30}", "{scheduler: euler}", 6, "tiny does not list 'euler'. Allowed: ddim"),
        ("{steps: 30}", "{scheduler: eulr}", 6, "did you mean 'euler'?"),
        ("scheduler: euler", "scheduler: eulr", 16, "did you mean 'euler'?"),
        ('"{prompt}, icon"', '"icon"', 4, "must hold {prompt} exactly once"),
        ('"{prompt}, icon"', '"{prompt}, {prompt}"', 4, "exactly once"),
        ('"{prompt}, icon"', '"{prompt}, {color}"', 4, "only placeholder"),
        ('"{prompt}, small"', '"small"', 9, "must hold {prompt} exactly once"),
        ('    template: "{prompt}, icon"\n', "", 2, "styles.icon.template: is missing"),
        ("  hero:", "  icon:", 12, "'icon' is here twice; the first is in line 2"),
        ("  hero:", "  none:", 12, "is built in"),
        ("  hero:", "  _hero:", 12, "part of file names"),
        ("negative_prompt: text", 'negative_prompt: "a\\nb"', 5, "one line"),
        ('"{prompt}, icon"', '"{prompt}, icon, "', 4, "without spaces at its ends"),
        ('negative_prompt: ""', 'negative_prompt: " "', 10, "without spaces at its ends"),
        ("  hero:", "  Hero/1:", 12, "part of file names"),
        ("title: Icon", "id: other", 3, "the id is the key already"),
        ("only: [big]", "only: [bog]", 14, "unknown model 'bog'; did you mean 'big'?"),
        ("only: [big]", "only: []", 14, "at least 1 item"),
        ("only: [big]", "only: big", 14, "valid array"),
        ("only: [big]", "only: [tiny]", 16, "'big' is not in `only`: this is never used"),
        ("styles:\n", "default: icno\nstyles:\n", 1, "unknown style 'icno'; did you mean 'icon'?"),
        ("styles:\n", "default: hero\nstyles:\n", 1, "tiny cannot draw 'hero'"),
        ("styles:\n", "default: [icon]\nstyles:\n", 1, "valid string"),
        ("      tiny:\n", "      tyni:\n", 8, "unknown model 'tyni'; did you mean 'tiny'?"),
    ],
)
def test_a_mistake_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    """The error names file and line, and what is allowed there."""
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_styles(path, MODELS)
    found = caught.value.detail.splitlines()
    assert any(text.startswith(f"{path}:{line}: ") and says in text for text in found), found


def test_the_shipped_styles_are_good_and_cover_game_art() -> None:
    """There is a style for each common kind of asset. The starter draws objects and tiles, no scenes."""
    models = load_models(PROJECT_ROOT / "configs/models.yaml")
    styles = load_styles(PROJECT_ROOT / "configs/styles.yaml", models)
    wanted = {"icon", "item", "character", "creature", "environment", "tile", "ui", "pixel_art"}
    assert wanted | {"isometric", "portrait"} <= set(styles)
    starter = {name for name, style in styles.items() if style.draws("starter")}
    assert starter == {
        *("none", "icon", "item", "weapon", "prop", "creature", "food", "vehicle", "tile"),
        *("flat", "silhouette", "pixel_icon", "pixel_character"),
    }
    assert all(style.title and style.description for style in styles.values())


def test_styles_add_few_words_for_the_starter() -> None:
    """It reads 24 tokens, so a style may add four words, and no negative prompt."""
    models = load_models(PROJECT_ROOT / "configs/models.yaml")
    styles = load_styles(PROJECT_ROOT / "configs/styles.yaml", models)
    for style in styles.values():
        if style.draws("starter"):
            assert len(style.template_for("starter").replace("{prompt}", "").split()) <= 4
            assert style.negative_for("starter") == ""
