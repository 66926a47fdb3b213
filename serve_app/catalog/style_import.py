"""Reads the style files of other programs, and writes their styles as entries of a styles file of ours.

Knows AUTOMATIC1111's styles.csv, the JSON lists of Fooocus and SDXL, and InvokeAI's presets (JSON or CSV).
Knows nothing of models: an imported style says the same to all of them.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from serve_app.catalog.models import PROMPT, prompt_problem, template_problem
from serve_app.catalog.styles import NONE
from serve_app.catalog.syntax import syntax_in
from serve_app.catalog.textfile import read_text
from serve_app.errors import ConfigError

KINDS = "a CSV with the columns `name` and `prompt`, or a JSON list of objects with these keys"
PROMPTS = ("prompt", "positive_prompt", "text")  # the last one in CSVs of before negative prompts
NEGATIVE = "negative_prompt"
READ = frozenset({"name", "description", NEGATIVE, *PROMPTS})
LONGEST_ID = 36  # of the 40 that an id may have: `_2` and so on need some
NAMED = 5  # styles that one remark lists


class Row(NamedTuple):
    where: str  # line or entry
    values: Mapping[Any, Any]


@dataclass
class Imported:
    """Styles by id, each as in our YAML, and what was not understood, in sentences."""

    styles: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    remarks: list[str] = field(default_factory=list[str])
    unread: Counter[str] = field(default_factory=Counter[str])

    def yaml(self, source: str) -> str:
        """A whole styles file. `source`: where they come from."""
        entries = yaml.safe_dump(
            {"styles": self.styles}, sort_keys=False, allow_unicode=True, width=10**6
        )
        return f"# From {source}, by `assets styles import`.\n{entries}"


def import_styles(path: Path) -> Imported:
    """Raises ConfigError, with the line where there is one, if the file is none of KINDS or has no style."""
    found = Imported()
    for row in _rows(path):
        _add(found, row)
    if not found.styles:
        raise ConfigError(
            "\n".join([f"{path}: no style in it. It should be {KINDS}", *found.remarks])
        )
    found.remarks += [f"`{key}` is not read ({many}x)" for key, many in found.unread.items()]
    if marked := [
        name for name, style in found.styles.items() if syntax_in(" ".join(style.values()))
    ]:
        more = f" and {len(marked) - NAMED} more" if len(marked) > NAMED else ""
        names = ", ".join(marked[:NAMED])
        found.remarks.append(
            f"{names}{more}: hold weights, LoRAs or other syntax, which is drawn as words"
        )
    return found


def _rows(path: Path) -> Iterator[Row]:
    text = read_text(path)
    return _json_rows(path, text) if text.lstrip()[:1] in ("[", "{") else _csv_rows(path, text)


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not JSON that can be read: {error}") from error
    if isinstance(data, dict):
        data = [data] if "name" in data else [_named(name, value) for name, value in data.items()]
    for number, entry in enumerate(data, 1):
        yield Row(f"entry {number}", entry if isinstance(entry, dict) else {})


def _named(name: str, value: Any) -> Any:
    return {"name": name, **value} if isinstance(value, dict) else None


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    first = text.partition("\n")[0]
    delimiter = ";" if ";" in first and "," not in first else ","
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    try:
        columns = set(reader.fieldnames or ())
        if "name" not in columns or not columns & set(PROMPTS):
            raise ConfigError(f"{path}:1: should be {KINDS}")
        for values in reader:
            yield Row(f"line {reader.line_num}", values)
    except csv.Error as error:
        raise ConfigError(f"{path}:{reader.line_num + 1}: not CSV: {error}") from error


def _add(found: Imported, row: Row) -> None:
    texts = _texts(found, row)
    name = texts.get("name", "")
    if not name:
        found.remarks.append(f"{row.where}: left out, it has no name")
        return
    prompt = next((texts[key] for key in PROMPTS if key in texts), "")
    negative = texts.get(NEGATIVE, "")
    if not prompt and not negative:
        found.remarks.append(f"{row.where}: {name!r} is left out, it has no words")
        return
    if PROMPT in negative:
        found.remarks.append(
            f"{row.where}: {name!r} has {PROMPT} in its negative prompt: taken out"
        )
        negative = _one_line(negative.replace(PROMPT, "")).strip(", ")
    template = _template(prompt)
    if wrong := template_problem(template) or prompt_problem(negative) or prompt_problem(name):
        found.remarks.append(f"{row.where}: {name!r} is left out, its text {wrong}")
        return
    style = {
        "title": name,
        "description": texts.get("description", ""),
        "template": template,
        NEGATIVE: negative,
    }
    found.styles[_new_id(name, found.styles)] = {key: text for key, text in style.items() if text}


def _texts(found: Imported, row: Row) -> dict[str, str]:
    """The texts that are read, in one line each; others are counted."""
    values = dict(row.values)
    preset = values.pop("preset_data", None)  # of InvokeAI
    if isinstance(preset, dict):
        values |= preset
    texts: dict[str, str] = {}
    for key, value in values.items():
        if key in READ and isinstance(value, str | None):
            texts[key] = _one_line(value or "")
        else:
            found.unread["what has no column" if key is None else str(key)] += 1
    return texts


def _template(prompt: str) -> str:
    """As AUTOMATIC1111 does it: a style without {prompt} comes after the prompt."""
    if PROMPT in prompt:
        return prompt
    return ", ".join(filter(None, (PROMPT, prompt.strip(", "))))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _new_id(name: str, taken: Mapping[str, object]) -> str:
    """Made of the name, and of no other style. It becomes part of file names."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:LONGEST_ID].strip("_") or "style"
    candidate, number = base, 1
    while candidate in taken or candidate == NONE.id:
        number += 1
        candidate = f"{base}_{number}"
    return candidate
