"""YAML files: every mistake is reported with its line and with what is allowed."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, Field

from serve_app.catalog.yamlfile import (
    At,
    Mistake,
    YamlFile,
    did_you_mean,
    read_yaml,
    shown,
    unknown_keys,
)
from serve_app.config import PROJECT_ROOT
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


BOMB = "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 9))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\n'<<': b\nshelves: *no\n", "shop.yaml:3: not YAML: found undefined alias"),
        ("name: a\nshelves: &s [*s]\n", "shop.yaml:2: holds itself, by an alias"),
        ("name: a\nshelves: &s {<<: *s}\n", "shop.yaml:2: holds itself, by an alias"),
        ("name: a\n<<: [1]\n", "shop.yaml:2: '<<' merges mappings only"),
        ("name: a\n<<: b\n", "shop.yaml:2: '<<' merges mappings only"),
        ("name: a\n<<: {}\n<<: {}\n", "shop.yaml:3: '<<' is here twice"),
        ("name: a\n<<: {b: 1,\n b: 2}\n", "shop.yaml:3: 'b' is here twice"),
        (f"name: &a0 [x]\n{BOMB}", "more than 100000 values"),
        (f"name: a\nshelves: {'[' * 60}{']' * 60}\n", "shop.yaml:2: nested more than 50"),
        (f"name: a\nshelves: {'[' * 4000}\n", "shop.yaml:2: nested more than 50"),
        ("name: a\nshelves: !!set {b}\n", "shop.yaml:2: not a value: the tag"),
        ("name: a\nshelves: !!omap [b: c]\n", "shop.yaml:2: not a value: the tag"),
        ("name: a\nshelves: !!bool b\n", "shop.yaml:2: not a value"),
        ("name: a\nshelves: !!int ''\n", "shop.yaml:2: not a value"),
        ("name: a\nshelves: !!timestamp b\n", "shop.yaml:2: not a value"),
        ("name: a\nshelves: !!binary aGk=\n", "shop.yaml:2: not a value: binary"),
        ("name: a\nshelves: !ours b\n", "shop.yaml:2: not a value"),
        ("name: a\nshelves: =\n", "shop.yaml:2: not a value"),
        ('name: a\nshelves: "\\ud800"\n', "shop.yaml:2: not a value"),
        ('name: a\nshelves: "\\UFFFFFFFF"\n', "shop.yaml:2: not YAML"),
        (f"name: a\nshelves: {'1' * 5000}\n", "shop.yaml:2: not a value"),
        (f"name: a\nshelves: 0x{'1' * 5000}\n", "shop.yaml:2: not a value"),
        ("name: a\n? !!python/object:os.x b\n: c\n", "shop.yaml:2: not a value"),
        ("name: a\n2026-13-45: b\n", "shop.yaml:2: not a value: month"),
        ("name: a\n[b, c]: d\n", "shop.yaml:2: the key ['b', 'c'] is not text"),
        ("name: a\n\x01\n", "shop.yaml:2: not YAML: holds U+0001"),
        ("name: a\n---\nname: b\n", "shop.yaml:2: not YAML: but found another document"),
        ("name: a\n\tb: c\n", "shop.yaml:2: not YAML"),
        ("%YAML 9.1\n---\nname: a\n", "shop.yaml:1: not YAML"),
    ],
)
def test_no_file_ends_in_a_traceback(tmp_path: Path, text: str, says: str) -> None:
    """Aliases and merges that cannot be, tags, escapes and numbers that PyYAML itself fails on."""
    assert says in refusal(tmp_path, text)


@given(st.text("ab: -&*!<>[]{},'\"|#%@?=~.\n\\0x7\t", max_size=60))
def test_any_text_is_read_or_refused_with_its_line(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.yaml")
        path.write_text(text)
        said = f"{path}:1: "
        try:
            read_yaml(path).parse(Shop)
        except ConfigError as error:
            said = error.detail
    assert re.match(rf"{path}:\d+: ", said), said


@pytest.mark.parametrize(
    ("shelf", "height"),
    [
        ("{<<: *low, id: 2}", 20),
        ("{id: 2, <<: *low}", 20),
        ("{<<: *low, id: 2, height: 30}", 30),
        ("{<<: [*low, *high], id: 2}", 20),
        ("{<<: [*high, *low], id: 2}", 90),
        ("{<<: *both, id: 2}", 20),
        ("{<<: {<<: *low, height: 5}, id: 2}", 5),
    ],
)
def test_merge_keys_bring_what_a_mapping_leaves_out(
    tmp_path: Path, shelf: str, height: int
) -> None:
    """Its own keys win, wherever they stand; of several merged mappings the first one wins."""
    bases = "by_name: {a: &low {id: 1, height: 20}, b: &high {id: 1, height: 90}, "
    text = f"name: shop\n{bases}c: &both {{<<: [*low, *high]}}}}\nshelves: [{shelf}]\n"
    (made,) = read(tmp_path, text).parse(Shop).shelves or []
    assert (made.id, made.height) == (2, height)


def test_a_mistake_in_merged_keys_has_the_line_where_it_is_written(tmp_path: Path) -> None:
    text = "name: a\nby_name:\n  a: &a\n    id: 1\n    height: x\n  b:\n    <<: *a\n"
    found = refusal(tmp_path, text).splitlines()
    assert [line.partition(": Input")[0] for line in found] == [
        "shop.yaml:5: by_name.a.height",
        "shop.yaml:5: by_name.b.height",
    ]


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


def test_a_path_is_shown_as_the_repository_names_it(tmp_path: Path) -> None:
    """Paths outside of the project are shown as they are."""
    assert shown(PROJECT_ROOT / "configs" / "models.yaml") == "configs/models.yaml"
    assert shown(tmp_path / "a.yaml") == str(tmp_path / "a.yaml")


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    """No traceback: missing, a directory, not UTF-8."""
    (tmp_path / "latin.yaml").write_bytes(b"name: a\nby: \xe9")
    for path, says in (
        (tmp_path / "no.yaml", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "latin.yaml", r"latin\.yaml:2: not UTF-8"),
    ):
        with pytest.raises(ConfigError, match=says):
            read_yaml(path)
