"""YamlFile: a YAML file with the line of every key, so that error messages name the line of a mistake.

Knows no file of this project: `styles.py`, `models.py` and `tools/lint.py` say what their files may hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic_core import ErrorDetails

from serve_app.catalog.textfile import read_text, shown
from serve_app.catalog.yamltree import At, YamlTree, loader_of
from serve_app.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


class Mistake(NamedTuple):
    """`text` says what is wrong at `at` and what is allowed."""

    at: At
    text: str


@dataclass(frozen=True)
class YamlFile:
    """`lines`: line of each key and list item, from 1."""

    path: Path
    data: Any
    lines: Mapping[At, int]

    def line(self, at: At) -> int:
        """Line of a key or item, from 1. For a missing one: the line of the mapping that lacks it."""
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 1)

    def refuse(self, problems: Iterable[Mistake]) -> None:
        """Raise one ConfigError that lists all problems, sorted by line. Without problems: return."""
        found = sorted({(self.line(p.at), self._sentence(p)) for p in problems})
        if found:
            raise ConfigError(
                "\n".join(f"{shown(self.path)}:{line}: {text}" for line, text in found)
            )

    def parse(self, model: type[M]) -> M:
        """The file as a `model`, or ConfigError. Strict: `steps: "20"` and `steps: yes` are not numbers."""
        unknown = {mistake.at: mistake for mistake in unknown_keys(model, self.data)}
        try:
            # Through JSON: pydantic's strict mode then takes a list for a tuple, but no text for a number.
            parsed = model.model_validate_json(json.dumps(self.data, default=str), strict=True)
        except ValidationError as error:
            others = [mistake for mistake in mistakes_of(error) if mistake.at not in unknown]
            self.refuse([*unknown.values(), *others])
            raise
        self.refuse(unknown.values())
        return parsed

    @staticmethod
    def _sentence(problem: Mistake) -> str:
        where = ".".join(str(key) for key in problem.at)
        return f"{where}: {problem.text}" if where else problem.text


def read_yaml(path: Path) -> YamlFile:
    """Raises ConfigError, with the line where there is one, if the file cannot be read, is not YAML, holds
    what no setting can be, or has a key twice (YAML would keep the last). Merge keys (`<<: *base`) work."""
    tree = YamlTree(path, loader_of(path, read_text(path)))
    return YamlFile(path, tree.data, tree.lines)


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """The end of a message: `; did you mean 'x'? Allowed: x, y, z`."""
    names = sorted(allowed)
    close = get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Allowed: {', '.join(names) or 'nothing'}"


def mistakes_of(error: ValidationError, at: At = ()) -> Iterator[Mistake]:
    """What pydantic found wrong. `at`: where in the file the validated part begins."""
    for found in error.errors(include_url=False):
        yield Mistake((*at, *found["loc"]), _text(found))


def _text(found: ErrorDetails) -> str:
    if found["type"] == "missing":
        return "is missing"
    if found["type"] == "value_error":
        return found["msg"].removeprefix("Value error, ")
    return f"{found['msg']}, not {found['input']!r}"


def unknown_keys(annotation: Any, data: Any, at: At = ()) -> Iterator[Mistake]:
    """Keys at any depth of `data` that no pydantic model inside the type `annotation` has.

    This also works for models without `extra="forbid"`, which would ignore them.
    """
    options = list(_options(annotation))
    if isinstance(data, list):
        for option in (o for o in options if get_origin(o) is list and get_args(o)):
            for i, item in enumerate(data):
                yield from unknown_keys(get_args(option)[0], item, (*at, i))
    if not isinstance(data, dict):
        return
    models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
    if models:
        fields = {name: f.annotation for m in models for name, f in _fields(m)}
        for key, value in data.items():
            if key in fields:
                yield from unknown_keys(fields[key], value, (*at, key))
            else:
                yield Mistake((*at, key), f"unknown key{did_you_mean(key, fields)}")
        return
    for option in (o for o in options if get_origin(o) is dict and get_args(o)):
        for key, value in data.items():
            yield from unknown_keys(get_args(option)[1], value, (*at, key))


def _options(annotation: Any) -> Iterator[Any]:
    """The members of a union, without Annotated."""
    if get_origin(annotation) is Annotated:
        yield from _options(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _options(member)
    else:
        yield annotation


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Every name that a field can be given by, aliases too."""
    for name, field in model.model_fields.items():
        yield name, field
        alias = field.validation_alias
        for other in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            if isinstance(other, str) and other != name:
                yield other, field
