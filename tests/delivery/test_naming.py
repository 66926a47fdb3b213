"""Names of files from a template: safe, unique, and made of what the template says."""

from __future__ import annotations

import time

import pytest

from serve_app.delivery.naming import DEFAULT, NameTemplate

VALUES = {
    "row": 7,
    "name": "potion",
    "prompt": "a red/blue potion?",
    "style": "icon",
    "seed": 12,
    "index": 0,
    "job": "019a",
    "model": "starter",
}


@pytest.mark.parametrize(
    ("template", "path"),
    [
        (DEFAULT, "00007_potion.png"),
        ("{style}/{row:4}_{prompt}_{seed}", "icon/0007_a_red_blue_potion_12.png"),
        ("{prompt}", "a_red_blue_potion.png"),
        ("../../{name}", "sprite/sprite/potion.png"),
        ("con/{name}", "con_/potion.png"),
        ("{index:02}", "00.png"),
        ("/{model}//{job}", "starter/019a.png"),
    ],
)
def test_a_template_is_filled_in(template: str, path: str) -> None:
    assert NameTemplate(template).name(VALUES, ".png") == path


def test_no_two_names_are_the_same_on_any_system() -> None:
    names = NameTemplate("{name}")
    said = ["hero", "Hero", "hero", "hero_2", "hero"]
    found = [names.name(VALUES | {"name": name}, ".png") for name in said]
    assert len({name.casefold() for name in found}) == 5
    assert found[0] == "hero.png"


def test_ten_thousand_equal_names_take_no_longer_than_others() -> None:
    names = NameTemplate("same")
    started = time.perf_counter()
    assert len({names.name(VALUES, ".png") for _ in range(10_000)}) == 10_000
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("template", ["{colour}", "{row", "row}", "", " / ", "{row:x}", "{}"])
def test_what_is_no_template_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"no field 'colour'|is no template"):
        NameTemplate(template)
