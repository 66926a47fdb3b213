"""Files of orders: CSV as spreadsheets write it, and JSON lines. Each becomes rows of plain fields.

Knows text, cells and which kind of value a field of an order takes; whether the value is right, it does not.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from serve_app.api.batches.orders import BatchOrder
from serve_app.errors import BadRequest, InvalidField, InvalidRows, RowError

DELIMITERS = ",;\t"
LINES_AN_ORDER, CELLS_AN_ORDER = 20, 200
"""A file may have so many times as many lines, and cells, as orders: 16 MB of empty ones take a minute."""
_SEP = "sep="
_TRUE, _FALSE = {"true", "yes", "1", "wahr", "vrai"}, {"false", "no", "0", "falsch", "faux"}


@dataclass(frozen=True, slots=True)
class FileRow:
    """An order of a file. `line`: where it begins, 1 is the first."""

    fields: Any
    line: int


def text_of(data: bytes) -> str:
    """UTF-8, with or without a mark of it. Raises InvalidField."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidField("body", "is UTF-16", ["UTF-8: in Excel, save as `CSV UTF-8`"])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        detail = f"is not UTF-8 (line {line}, byte {error.start})"
        raise InvalidField("body", detail, ["UTF-8: in Excel, save as `CSV UTF-8`"]) from error
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise InvalidField("body", f"has a NUL character (line {line}): it is no text")
    return text


def rows_of_lines(data: bytes, most: int) -> list[FileRow]:
    """JSON lines: an object in each line; empty lines are passed over. Raises InvalidField, InvalidRows."""
    rows: list[FileRow] = []
    text = text_of(data)
    _refuse_much(text, "\n", LINES_AN_ORDER * most, "lines")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        _refuse_more(len(rows) + 1, most)
        try:
            rows.append(FileRow(json.loads(line, object_pairs_hook=_each_once), number))
        except (ValueError, RecursionError) as error:
            detail = f"line {number} is not JSON: {_said(error)}"
            raise InvalidRows([RowError(len(rows) + 1, "body", detail)], 1) from error
    return rows


def rows_of_csv(data: bytes, most: int) -> list[FileRow]:
    """CSV whose first line names fields of an order. An empty cell is a field that is left out.

    As spreadsheets write it: comma, semicolon or tab between cells, `sep=;` before the first line, decimal
    commas where the semicolon divides, empty lines and empty columns at the end, cells missing at the end of
    a row. Raises InvalidField, InvalidRows.
    """
    text = text_of(data)
    delimiter, skipped = _delimiter(text)
    for sign in "\r\n":
        _refuse_much(text, sign, LINES_AN_ORDER * most, "lines")
    _refuse_much(text, delimiter, CELLS_AN_ORDER * most, "cells")
    lines = text.split("\n", 1)[1] if skipped and "\n" in text else "" if skipped else text
    records = _records(lines, delimiter, skipped)
    header = next(records, None)
    if header is None:
        raise InvalidField("body", "is empty", [f"a first line of fields: {', '.join(_kinds())}"])
    names = _names(header.fields)
    rows: list[FileRow] = []
    for record in records:
        _refuse_more(len(rows) + 1, most)
        cells: list[str] = record.fields
        if any(cell.strip() for cell in cells[len(names) :]):
            detail = f"line {record.line} has {len(cells)} cells, the header {len(names)}"
            raise InvalidRows([RowError(len(rows) + 1, "body", detail)], 1)
        fields = {
            name: _value(cell.strip(), _kinds()[name], decimal_comma=delimiter != ",")
            for name, cell in zip(names, cells, strict=False)
            if name and cell.strip()
        }
        rows.append(FileRow(fields, record.line))
    return rows


def _delimiter(text: str) -> tuple[str, int]:
    """What divides cells, and how many lines say so before the header."""
    first = text.split("\n", 1)[0].strip()
    if first.casefold().startswith(_SEP) and len(first) == len(_SEP) + 1:
        return first[-1], 1
    return max(DELIMITERS, key=first.count), 0


def _records(text: str, delimiter: str, skipped: int) -> Iterator[FileRow]:
    """Cells of each line that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begun, row = skipped + 1, 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield FileRow(cells, begun)
                row += 1
            begun = skipped + reader.line_num + 1
    except csv.Error as error:
        detail = f"line {begun} cannot be read: {error}"
        if "unexpected end" in str(error):
            detail = f"a quote of line {begun} is never closed"
        raise InvalidRows([RowError(row or None, "body", detail)], 1) from error


def _names(cells: list[str]) -> list[str]:
    """The field of each column; empty: a column without a name."""
    names = [cell.strip().casefold().replace(" ", "_").replace("-", "_") for cell in cells]
    known = [*_kinds()]
    for cell, name in zip(cells, names, strict=True):
        if name and name not in known:
            raise InvalidField("body", f"no field is called {cell.strip()[:60]!r}", known)
        if name and names.count(name) > 1:
            raise InvalidField("body", f"two columns are called {name!r}", known)
    while names and not names[-1]:
        names.pop()
    if "prompt" not in names:
        raise InvalidField("prompt", "the first line names no such column", known)
    return names


@cache
def _kinds() -> dict[str, str]:
    """Field of an order -> JSON's name for the kind of its value."""
    kinds: dict[str, str] = {}
    for name, schema in BatchOrder.model_json_schema()["properties"].items():
        if name != "dry_run":
            branches = [schema, *schema.get("anyOf", [])]
            found = [
                branch["type"] for branch in branches if branch.get("type") not in (None, "null")
            ]
            kinds[name] = found[0] if found else "object" if "$ref" in str(schema) else "string"
    return kinds


def _value(cell: str, kind: str, *, decimal_comma: bool) -> Any:
    """The cell as such a value; as text, if it is none: then whoever checks it says so."""
    try:
        match kind:
            case "integer" | "number":
                number = float(cell.replace(",", ".") if decimal_comma else cell)
                return int(number) if kind == "integer" and number.is_integer() else number
            case "boolean":
                word = cell.casefold()
                return True if word in _TRUE else False if word in _FALSE else cell
            case "array" | "object" if cell[0] in "[{":
                return json.loads(cell, object_pairs_hook=_each_once)
            case "array":
                return cell.replace(",", " ").split()
            case _:
                return cell
    except (ValueError, RecursionError, BadRequest):
        return cell


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _refuse_much(text: str, sign: str, most: int, what: str) -> None:
    if text.count(sign) > most:
        raise InvalidField("body", f"has more than {most} {what}, most of them empty")


def _refuse_more(count: int, most: int) -> None:
    if count > most:
        raise InvalidField("orders", f"more than {most}, which is the most that one batch may have")


def _said(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.colno}"
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)
