"""YamlTree: the data of a YAML text, and the line of every key and item. Whatever PyYAML fails on is refused.

Knows YAML only; `yamlfile.py` knows what a file may hold.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import yaml

from serve_app.catalog.textfile import shown
from serve_app.errors import ConfigError

At = tuple[str | int, ...]
"""Where in the file: keys and list positions from the top."""


MERGE = "tag:yaml.org,2002:merge"
MAX_VALUES = 100_000
MAX_DEPTH = 50
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"


def loader_of(path: Path, text: str) -> yaml.SafeLoader:
    try:
        return yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{ord(text[error.position]):04X}"
        raise ConfigError(f"{shown(path)}:{line}: not YAML: holds {character}") from error


_Pairs = dict[str, tuple[int, yaml.Node]]


class YamlTree:
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
