"""Files of orders as spreadsheets and scripts write them, and what is said of those that are none."""

from __future__ import annotations

import contextlib
import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.api.batches.files import rows_of_csv, rows_of_lines
from serve_app.errors import InvalidField, InvalidRows

MOST = 100


def fields(data: bytes | str) -> list[Any]:
    return [row.fields for row in rows_of_csv(encoded(data), MOST)]


def encoded(data: bytes | str) -> bytes:
    return data if isinstance(data, bytes) else data.encode()


def wrong_row(data: bytes | str) -> tuple[int | None, str]:
    with pytest.raises(InvalidRows) as told:
        rows_of_csv(encoded(data), MOST)
    (error,) = told.value.errors
    return error.row, error.detail


def test_a_csv_as_excel_writes_it_in_germany() -> None:
    """UTF-8 with its mark, semicolons, decimal commas, CRLF, and columns and lines without anything."""
    data = (
        "\ufeffPrompt;Style-ID;Guidance Scale;tags;;\r\n"
        '"ein roter; Trank";icon;6,5;level-3 potions;;\r\n'
        ";;;;;\r\n"
        "ein Schwert;;;;;\r\n"
    )
    assert fields(data) == [
        {
            "prompt": "ein roter; Trank",
            "style_id": "icon",
            "guidance_scale": 6.5,
            "tags": ["level-3", "potions"],
        },
        {"prompt": "ein Schwert"},
    ]


@pytest.mark.parametrize("divider", [",", ";", "\t"])
def test_whatever_divides_the_cells(divider: str) -> None:
    lines = (("prompt", "seed", "n"), ("a castle", "7", "2"))
    assert fields("\n".join(map(divider.join, lines))) == [
        {"prompt": "a castle", "seed": 7, "n": 2}
    ]


def test_a_line_that_says_what_divides_is_no_header() -> None:
    assert fields("sep=;\nprompt;seed\na, b;7\n") == [{"prompt": "a, b", "seed": 7}]


def test_cells_become_what_their_field_takes() -> None:
    """A whole number may have a point, as spreadsheets show it; lists and objects are JSON."""
    data = 'prompt,seed,effects,require,metadata\na,7.0,"[{""op"": ""trim""}]","{""seam"": 1}","{""a"": 1}"\n'
    assert fields(data) == [
        {
            "prompt": "a",
            "seed": 7,
            "effects": [{"op": "trim"}],
            "require": {"seam": 1},
            "metadata": {"a": 1},
        }
    ]


def test_a_quoted_cell_may_hold_lines_and_quotes() -> None:
    (row,) = rows_of_csv(b'prompt\n"two\nlines, ""quoted"""\n', MOST)
    assert row.fields == {"prompt": 'two\nlines, "quoted"'}
    assert row.line == 2


def test_cells_may_be_missing_at_the_end_of_a_row() -> None:
    """Excel leaves them out from the seventeenth row on, if all below are empty."""
    assert fields("prompt,seed,n\na\nb,2\n") == [{"prompt": "a"}, {"prompt": "b", "seed": 2}]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(InvalidField, match="names no such column") as told:
        rows_of_csv(b"seed,n\n1,2\n", MOST)
    assert told.value.field == "prompt"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("prompt,colour", "'colour'"),
        ("prompt,seed,Seed", "two columns"),
        ("prompt,dry_run", "dry_run"),
    ],
)
def test_a_column_that_no_order_has_is_named(header: str, said: str) -> None:
    with pytest.raises(InvalidField, match=said) as told:
        rows_of_csv(f"{header}\na,b,c\n".encode(), MOST)
    assert "style_id" in (told.value.allowed or [])


def test_a_cell_too_many_is_told_with_its_row_and_line() -> None:
    assert wrong_row("prompt,seed\na,1\nb,2,oops\n") == (2, "line 3 has 3 cells, the header 2")


def test_a_quote_that_is_never_closed_is_told_where_it_begins() -> None:
    assert wrong_row('prompt,seed\na,1\n"b,2\nc,3\n') == (2, "a quote of line 3 is never closed")


def test_text_after_a_quote_is_told() -> None:
    row, detail = wrong_row('prompt\n"a"b\n')
    assert row == 1
    assert "line 2" in detail


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"prompt\n\xfcber\n", r"not UTF-8 \(line 2, byte 7\)"),
        ("prompt\na\n".encode("utf-16"), "UTF-16"),
        (b"prompt\na\nb\0\n", r"NUL character \(line 3\)"),
        (b"", "empty"),
    ],
)
def test_what_is_no_text_is_told_how_to_be_one(data: bytes, said: str) -> None:
    with pytest.raises(InvalidField, match=said):
        rows_of_csv(data, MOST)
    if data:
        with pytest.raises(InvalidField, match=said):
            rows_of_lines(data, MOST)


def test_orders_beyond_the_most_are_refused() -> None:
    assert len(fields("prompt\n" + "a\n" * MOST)) == MOST
    with pytest.raises(InvalidField, match="more than 100"):
        rows_of_csv(b"prompt\n" + b"a\n" * (MOST + 1), MOST)
    with pytest.raises(InvalidField, match="more than 100"):
        rows_of_lines(b"{}\n" * (MOST + 1), MOST)


def test_lines_of_json_may_be_empty() -> None:
    rows = rows_of_lines(b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n{"prompt": "b"}', MOST)
    assert [(row.fields["prompt"], row.line) for row in rows] == [("a", 1), ("b", 3)]


@pytest.mark.parametrize(
    "line", ['{"prompt": "a"', '{"prompt": "a", "prompt": "b"}', "[" * 100_000, "{} {}"]
)
def test_a_line_that_is_not_json_is_told(line: str) -> None:
    with pytest.raises(InvalidRows) as told:
        rows_of_lines(f'{{"prompt": "a"}}\n{line}\n'.encode(), MOST)
    (error,) = told.value.errors
    assert error.row == 2
    assert "line 2" in error.detail


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=20)


@given(
    st.lists(TEXTS.filter(lambda text: bool(text.strip())), min_size=1, max_size=8),
    st.sampled_from(",;\t"),
)
def test_whatever_a_csv_writer_wrote_is_read(prompts: list[str], divider: str) -> None:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=divider)
    writer.writerow(["prompt", "seed"])
    writer.writerows([prompt, 7] for prompt in prompts)
    read = fields(file.getvalue())
    assert read == [{"prompt": prompt.strip(), "seed": 7} for prompt in prompts]


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_clear_refusal(data: bytes) -> None:
    for read in (rows_of_csv, rows_of_lines):
        with contextlib.suppress(InvalidField, InvalidRows):
            assert all(row.line > 0 for row in read(data, MOST))


@pytest.mark.parametrize(
    ("empty", "what"), [("\n", "lines"), ("\r", "lines"), ("\n,", "lines"), (",", "cells")]
)
def test_a_file_of_nothing_is_refused_before_it_is_read(empty: str, what: str) -> None:
    """16 MB of it took a minute."""
    with pytest.raises(InvalidField) as told:
        rows_of_csv(f"prompt\na{empty * (200 * MOST + 1)}".encode(), MOST)
    assert told.value.field == "body"
    assert what in told.value.detail


def test_so_are_lines_of_nothing() -> None:
    with pytest.raises(InvalidField, match="lines"):
        rows_of_lines(b"\n" * (20 * MOST + 1), MOST)
