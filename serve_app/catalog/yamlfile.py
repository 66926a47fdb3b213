"""YamlFile: a YAML file with the line of every key, so that error messages name the line of a mistake.

Knows no file of this project: `styles.py`, `models.py` and `tools/lint.py` say what their files may hold.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple, NoReturn, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic_core import ErrorDetails

from serve_app.config import PROJECT_ROOT
from serve_app.errors import ConfigError

M = TypeVar("M", bound=BaseModel)

At = tuple[str | int, ...]
"""Where in the file: keys and list positions from the top."""


MERGE = "tag:yaml.org,2002:merge"
MAX_VALUES = 100_000
MAX_DEPTH = 50
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"


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
        self.refuse(unknown_keys(model, self.data))
        try:
            # Through JSON: pydantic's strict mode then takes a list for a tuple, but no text for a number.
            return model.model_validate_json(json.dumps(self.data, default=str), strict=True)
        except ValidationError as error:
            self.refuse(mistakes_of(error))
            raise

    @staticmethod
    def _sentence(problem: Mistake) -> str:
        where = ".".join(str(key) for key in problem.at)
        return f"{where}: {problem.text}" if where else problem.text


def read_yaml(path: Path) -> YamlFile:
    """Raises ConfigError, with the line where there is one, if the file cannot be read, is not YAML, holds
    what no setting can be, or has a key twice (YAML would keep the last). Merge keys (`<<: *base`) work."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{shown(path)}: cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{shown(path)}:{line}: not UTF-8: {error.reason}") from error
    tree = _Tree(path, _loader(path, text))
    return YamlFile(path, tree.data, tree.lines)


def _loader(path: Path, text: str) -> yaml.SafeLoader:
    try:
        return yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{ord(text[error.position]):04X}"
        raise ConfigError(f"{shown(path)}:{line}: not YAML: holds {character}") from error


def shown(path: Path) -> str:
    """The path relative to the project root if it is below that, else as it is."""
    absolute = path.absolute()
    return str(
        absolute.relative_to(PROJECT_ROOT) if absolute.is_relative_to(PROJECT_ROOT) else path
    )


_Pairs = dict[str, tuple[int, yaml.Node]]


class _Tree:
    """The data of a file, and the line of each key and item. A key that a merge brings has the line where it
    is written."""

    def __init__(self, path: Path, loader: yaml.SafeLoader) -> None:
        self._path, self._loader = path, loader
        self._open: list[yaml.Node] = []  # the nodes above, from the top
        self._values = 0
        self.lines: dict[At, int] = {}
        root = self._root()
        self.data = self._plain(root, ()) if root else None

    def _root(self) -> yaml.Node | None:
        try:
            return self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            self._refuse(error.problem_mark, f"not YAML: {error.problem}")
        except RecursionError:
            self._refuse(self._loader.get_mark(), TOO_DEEP)
        except (ValueError, OverflowError) as error:  # of an escape such as "\\UFFFFFFFF"
            self._refuse(self._loader.get_mark(), f"not YAML: {error}")

    def _plain(self, node: yaml.Node, at: At) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        with self._within(node):
            if isinstance(node, yaml.MappingNode):
                pairs = self._pairs(node)
                self.lines.update({(*at, key): line for key, (line, _) in pairs.items()})
                return {key: self._plain(value, (*at, key)) for key, (_, value) in pairs.items()}
            if isinstance(node, yaml.SequenceNode):
                self._check_tag(node, "seq")
                return [self._plain(v, (*at, i)) for i, v in enumerate(node.value)]
            return self._value(node)

    @contextmanager
    def _within(self, node: yaml.Node) -> Generator[None]:
        self._values += 1
        if self._values > MAX_VALUES:  # aliases of aliases grow without bound
            self._refuse(node.start_mark, f"more than {MAX_VALUES} values, its aliases written out")
        if any(node is above for above in self._open):
            self._refuse(node.start_mark, "holds itself, by an alias")
        if len(self._open) > MAX_DEPTH:
            self._refuse(node.start_mark, TOO_DEEP)
        self._open.append(node)
        yield
        self._open.pop()

    def _pairs(self, node: yaml.MappingNode) -> _Pairs:
        """What a mapping holds, and the line of each key: its own, and those that a merge brings."""
        self._check_tag(node, "map")
        own, merged = _Pairs(), list[yaml.Node]()
        for key_node, value in node.value:
            if key_node.tag == MERGE:
                merged.append(value)
                if len(merged) > 1:
                    self._refuse(key_node.start_mark, "'<<' is here twice: merge a list, [*a, *b]")
                continue
            key = self._key(key_node)
            if key in own:
                text = f"{key!r} is here twice; the first is in line {own[key][0]}"
                self._refuse(key_node.start_mark, text)
            own[key] = (key_node.start_mark.line + 1, value)
        return (self._merged(merged[0]) if merged else {}) | own

    def _merged(self, node: yaml.Node) -> _Pairs:
        """Of several mappings the first wins."""
        found = _Pairs()
        for base in reversed(node.value if isinstance(node, yaml.SequenceNode) else [node]):
            if not isinstance(base, yaml.MappingNode):
                self._refuse(base.start_mark, "'<<' merges mappings only: <<: *name, or a list")
            with self._within(base):
                found |= self._pairs(base)
        return found

    def _key(self, node: yaml.Node) -> str:
        key: object = self._value(node)
        if not isinstance(key, str):
            self._refuse(node.start_mark, f"the key {key!r} is not text: put it in quotes")
        return key

    def _value(self, node: yaml.Node) -> Any:
        try:
            value: object = self._loader.construct_object(node, deep=True)
            str(value).encode()  # not of half a surrogate pair, nor of a number with 5,000 digits
        except yaml.MarkedYAMLError as error:
            self._refuse(node.start_mark, f"not a value: {error.problem}")
        except Exception as error:  # whatever PyYAML makes of a wrong tag: KeyError, IndexError
            self._refuse(node.start_mark, f"not a value: {error}")
        if isinstance(value, bytes):
            self._refuse(node.start_mark, "not a value: binary data")
        return value

    def _check_tag(self, node: yaml.Node, kind: str) -> None:
        if node.tag != f"tag:yaml.org,2002:{kind}":
            self._refuse(node.start_mark, f"not a value: the tag {node.tag} is not known here")

    def _refuse(self, mark: yaml.Mark | None, text: str) -> NoReturn:
        raise ConfigError(f"{shown(self._path)}:{mark.line + 1 if mark else 1}: {text}") from None


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
