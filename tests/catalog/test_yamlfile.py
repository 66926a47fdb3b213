"""YAML files: every mistake is reported with its line and with what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import AliasChoices, BaseModel, Field

from serve_app.catalog.yamlfile import (
    At,
    Mistake,
    YamlFile,
    did_you_mean,
    read_yaml,
    unknown_keys,
)
from serve_app.errors import ConfigError

TEXT = """\
name: shop
shelves:
  - {id: 1, height: 20}
  - id: 2
    height: 30
"""


class Shelf(BaseModel):
    id: int
    height: int = Field(default=10, validation_alias=AliasChoices("height", "h"))


class Shop(BaseModel):
    name: str
    shelves: list[Annotated[Shelf, "on the left"]] | None = None
    by_name: dict[str, Shelf] = {}
    corner: tuple[int, int] | None = None


@pytest.fixture
def file(tmp_path: Path) -> YamlFile:
    return read(tmp_path, TEXT)


def read(folder: Path, text: str) -> YamlFile:
    path = folder / "shop.yaml"
    path.write_text(text)
    return read_yaml(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text).parse(Shop)
    return caught.value.detail.replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("at", "line"),
    [
        ((), 1),
        (("name",), 1),
        (("shelves", 0, "height"), 3),
        (("shelves", 1), 4),
        (("shelves", 1, "height"), 5),
        (("shelves", 1, "width"), 4),
        (("shelves", 7, "id"), 2),
        (("nothing", "here"), 1),
    ],
)
def test_every_key_and_item_has_its_line(file: YamlFile, at: At, line: int) -> None:
    """A missing one has the line of what lacks it."""
    assert file.line(at) == line


def test_all_mistakes_are_in_one_error_sorted_by_line(file: YamlFile) -> None:
    """Each once; without mistakes there is no error."""
    late, early = Mistake(("shelves", 1, "id"), "is wrong"), Mistake(("name",), "is short")
    with pytest.raises(ConfigError) as caught:
        file.refuse([late, early, late])
    lines = [line.partition("shop.yaml:")[2] for line in caught.value.detail.splitlines()]
    assert lines == ["1: name: is short", "4: shelves.1.id: is wrong"]
    file.refuse([])


def test_unknown_keys_do_not_hide_other_mistakes(tmp_path: Path) -> None:
    """Who corrects one finds no new one behind it."""
    assert [line[:20] for line in refusal(tmp_path, "nmae: a\ncorner: [1, x]\n").splitlines()] == [
        "shop.yaml:1: name: i",
        "shop.yaml:1: nmae: u",
        "shop.yaml:2: corner.",
    ]


def test_a_good_file_becomes_a_model(tmp_path: Path) -> None:
    """A list fills a tuple."""
    shop = read(tmp_path, f"{TEXT}corner: [3, 4]\n").parse(Shop)
    assert (shop.name, shop.corner) == ("shop", (3, 4))
    assert [(s.id, s.height) for s in shop.shelves or []] == [(1, 20), (2, 30)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: shop\nshelfs: []\n", "shop.yaml:2: shelfs: unknown key; did you mean 'shelves'?"),
        ("name: shop\nshelves: [{id: '1'}]\n", "shop.yaml:2: shelves.0.id: "),
        ("name: shop\nshelves: [{id: yes}]\n", "shop.yaml:2: shelves.0.id: "),
        ("shelves: []\n", "shop.yaml:1: name: is missing"),
        ("name: a\nname: b\n", "shop.yaml:2: 'name' is here twice; the first is in line 1"),
        ("name: a\n2: b\n", "shop.yaml:2: the key 2 is not text: put it in quotes"),
        ("name: [a\n", "shop.yaml:2: not YAML: "),
        ("name: 2026-13-45\n", "shop.yaml:1: not a value: month must be in 1..12"),
        ("name: !!python/object:os.system x\n", "shop.yaml:1: not a value: "),
        ("- shop\n", "shop.yaml:1: "),
        ("", "shop.yaml:1: "),
    ],
)
def test_a_mistake_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    """Unknown keys, wrong types, keys that YAML would drop or change, and what is no YAML."""
    assert says in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"name": "a", "shelves": [{"id": 1, "heigt": 2}]}, [("shelves", 0, "heigt")]),
        ({"by_name": {"low": {"h": 2}, "high": {"hh": 2}}}, [("by_name", "high", "hh")]),
        ({"shelves": None, "nmae": 1}, [("nmae",)]),
        ([1, 2], []),
    ],
)
def test_unknown_keys_are_found_at_every_depth(data: object, found: list[At]) -> None:
    """In lists, mappings and unions, though these models would ignore them; aliases are known."""
    assert [mistake.at for mistake in unknown_keys(Shop, data)] == found


def test_the_nearest_name_is_suggested() -> None:
    """If one is near; the allowed ones are listed in any case."""
    assert did_you_mean("eulr", ["euler", "ddim"]) == "; did you mean 'euler'? Allowed: ddim, euler"
    assert did_you_mean("x", ["euler"]) == ". Allowed: euler"
    assert did_you_mean("x", []) == ". Allowed: nothing"
