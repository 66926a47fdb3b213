"""Style files of other programs: what becomes of them, and what is said of what is not understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.catalog.models import load_models
from serve_app.catalog.style_import import Imported, import_styles
from serve_app.catalog.styles import Styles, load_styles
from serve_app.config import PROJECT_ROOT
from serve_app.errors import ConfigError

CSV = """\
name,prompt,negative_prompt
Oil Paint,"oil painting of {prompt}, thick
strokes","photo, ""flat"" look"
Flat,"flat colors, vector",
"""
FOOOCUS = [
    {"name": "sai-3d", "prompt": "3d model {prompt} . octane", "negative_prompt": "ugly"},
    {"name": "Only Negative", "prompt": "", "negative_prompt": "(worst:1.4)"},
]
INVOKE = [
    {"name": "Ink", "type": "default", "preset_data": {"positive_prompt": "{prompt}, ink++",
     "negative_prompt": ""}},
    {"name": "Chalk", "positive_prompt": "chalk {prompt}", "negative_prompt": "oil"},
]  # fmt: skip


def imported(tmp_path: Path, content: str | bytes | Any) -> Imported:
    path = tmp_path / "theirs"
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return import_styles(path)


def as_ours(found: Imported, folder: Path) -> Styles:
    """Written and read again, as the service reads it."""
    (folder / "styles.yaml").write_text(found.yaml("theirs"))
    return load_styles(folder / "styles.yaml", load_models(PROJECT_ROOT / "configs/models.yaml"))


@pytest.mark.parametrize(
    ("content", "styles"),
    [
        (CSV, [("oil_paint", "oil painting of {prompt}, thick strokes", 'photo, "flat" look'),
               ("flat", "{prompt}, flat colors, vector", "")]),
        ("\ufeff" + CSV.replace("\n", "\r\n"), [("oil_paint", "oil painting of {prompt}, thick strokes",
               'photo, "flat" look'), ("flat", "{prompt}, flat colors, vector", "")]),
        ("name,text\nOld,in oil\n", [("old", "{prompt}, in oil", "")]),
        ("name;prompt;negative_prompt\nExcel;in oil;a, b\n", [("excel", "{prompt}, in oil", "a, b")]),
        ("name,prompt\nnone,x\nNone,y\n猫,z\n", [("none_2", "{prompt}, x", ""), ("none_3", "{prompt}, y", ""),
               ("style", "{prompt}, z", "")]),
        (FOOOCUS, [("sai_3d", "3d model {prompt} . octane", "ugly"),
                   ("only_negative", "{prompt}", "(worst:1.4)")]),
        (INVOKE, [("ink", "{prompt}, ink++", ""), ("chalk", "chalk {prompt}", "oil")]),
        ({"Größe": {"prompt": "big {prompt}"}}, [("groe", "big {prompt}", "")]),
        ({"name": "x" * 60, "prompt": "y"}, [("x" * 36, "{prompt}, y", "")]),
    ],
)  # fmt: skip
def test_public_kinds_become_styles_of_ours(
    tmp_path: Path, content: Any, styles: list[tuple[str, str, str]]
) -> None:
    """The service loads them; a title is the name as it was."""
    loaded = as_ours(imported(tmp_path, content), tmp_path)
    found = [(s.id, s.template, s.negative_prompt) for s in loaded.values() if s.id != "none"]
    assert found == styles
    assert all(loaded[style_id].title for style_id, *_ in styles)


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        (CSV + "------,,\n", "line 5: '------' is left out, it has no words"),
        (CSV + ",words,\n", "line 5: left out, it has no name"),
        (CSV + "a,b,c,d\n", "`what has no column` is not read (1x)"),
        (CSV + '"a","{prompt}, {prompt}",\n', "line 5: 'a' is left out, its text must hold {prompt} exactly"),
        (CSV + '"a","{red|blue} {prompt}",\n', "line 5: 'a' is left out, its text {prompt} is the only"),
        (CSV + 'a,b,"x, {prompt}"\n', "line 5: 'a' has {prompt} in its negative prompt: taken out"),
        (FOOOCUS, "only_negative: hold weights, LoRAs or other syntax, which is drawn as words"),
        (INVOKE, "`type` is not read (1x)"),
        ([*FOOOCUS, 7], "entry 3: left out, it has no name"),
        ([*FOOOCUS, {"name": "a", "prompt": 7}], "`prompt` is not read (1x)"),
        ([*FOOOCUS, {"name": "a\x07", "prompt": "b"}], "entry 3: 'a\\x07' is left out"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_said(tmp_path: Path, content: Any, remark: str) -> None:
    """And the other styles are imported all the same."""
    found = imported(tmp_path, content)
    assert any(said.startswith(remark) for said in found.remarks), found.remarks
    assert len(as_ours(found, tmp_path)) >= 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name,prompt\na,\xe9\n", ":2: not UTF-8"),
        ("", ":1: should be a CSV"),
        ("styles:\n  a: b\n", ":1: should be a CSV"),
        ("name,words\na,b\n", ":1: should be a CSV"),
        ('name,prompt\na,"b\n', ":2: not CSV: unexpected end"),
        ("name,prompt\n", ": no style in it. It should be a CSV"),
        ("[\n{]", ":2: not JSON"),
        ("[" * 100_000, ": not JSON that can be read"),
        ([], ": no style in it"),
        ({"a": 1}, ": no style in it"),
        ({"styles": [{"name": "a", "prompt": "b"}]}, ": no style in it"),
    ],
)
def test_a_bad_file_is_a_clear_error(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, content)
    assert caught.value.detail.startswith(f"{tmp_path}/theirs{says}")


def test_a_description_is_kept(tmp_path: Path) -> None:
    """Some programs have a column for it."""
    found = imported(tmp_path, "name,prompt,description\nOil,in oil,As of old.\n")
    assert as_ours(found, tmp_path)["oil"].description == "As of old."


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        import_styles(tmp_path / "no.csv")


words = st.text(max_size=20) | st.sampled_from(["{prompt}", "a {prompt}", "none", "x"])
values = words | st.none() | st.integers() | st.lists(words, max_size=2)
entries = st.dictionaries(
    st.sampled_from(
        ["name", "prompt", "negative_prompt", "positive_prompt", "preset_data", "type"]
    ),
    values | st.dictionaries(st.sampled_from(["positive_prompt", "name"]), values, max_size=2),
)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(entries | values, max_size=4))
def test_whatever_is_imported_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    """Any JSON list is refused, or gives styles that the service takes."""
    folder = tmp_path_factory.mktemp("import")
    try:
        found = imported(folder, data)
    except ConfigError:
        return
    assert len(as_ours(found, folder)) == len(found.styles) + 1
