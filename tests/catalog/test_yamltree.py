"""YAML trees: whatever PyYAML fails on is refused with its line, and merge keys bring what they should."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.catalog.yamlfile import YamlFile, read_yaml
from serve_app.errors import ConfigError


def read(folder: Path, text: str) -> YamlFile:
    path = folder / "shop.yaml"
    path.write_text(text)
    return read_yaml(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return caught.value.detail.replace(f"{folder}/", "")


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
            read_yaml(path)
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
    bases = "low: &low {id: 1, height: 20}\nhigh: &high {id: 1, height: 90}\n"
    text = f"{bases}both: &both {{<<: [*low, *high]}}\nshelf: {shelf}\n"
    data: Any = read(tmp_path, text).data
    assert data["shelf"] == {"id": 2, "height": height}


def test_a_merged_key_has_the_line_where_it_is_written(tmp_path: Path) -> None:
    """There a mistake in it is mended."""
    file = read(tmp_path, "a: &a\n  id: 1\n  height: x\nb:\n  <<: *a\n  id: 2\n")
    assert (file.line(("b", "height")), file.line(("b", "id"))) == (3, 6)
