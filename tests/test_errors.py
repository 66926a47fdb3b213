"""The tree of errors in the docstring of `errors` is the tree of classes, with their statuses and codes."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app import errors
from serve_app.errors import ServiceError

ELSEWHERE = (
    "serve_app.api.problems",
    "serve_app.engine.runner",
    "serve_app.finishing.palette_files",
    "serve_app.finishing.picture",
)
"""Modules that define errors of their own."""
LINE = re.compile(r"^(?P<branch>[ |`-]*)(?P<name>[A-Z]\w+) +(?P<status>\w+)  (?P<code>\w+)")


def drawn() -> list[tuple[int, str, str, str]]:
    """(depth, class, status, code) of each line of the tree, in its order."""
    found = filter(None, map(LINE.match, (errors.__doc__ or "").splitlines()))
    return [(len(m["branch"]) // 3, m["name"], m["status"], m["code"]) for m in found]


def classes(of: type[ServiceError], depth: int = 0) -> Iterator[tuple[int, type[ServiceError]]]:
    yield depth, of
    for child in of.__subclasses__():
        yield from classes(child, depth + 1)


@pytest.fixture(autouse=True)
def every_error_is_defined() -> None:
    for module in ELSEWHERE:
        importlib.import_module(module)


def test_the_tree_draws_every_class_below_its_base() -> None:
    parents: list[str] = []
    pairs: set[tuple[str, str]] = set()
    for depth, name, _, _ in drawn():
        parents[depth:] = [name]
        pairs.add((name, parents[depth - 1] if depth else ""))
    real = {
        (error.__name__, "" if error is ServiceError else error.__bases__[0].__name__)
        for _, error in classes(ServiceError)
    }
    assert pairs == real


def test_statuses_and_codes_are_those_of_the_classes() -> None:
    said = {name: (status, code) for _, name, status, code in drawn()}
    real = {e.__name__: (str(e.status), e.code) for _, e in classes(ServiceError)}
    assert said.pop("Refused") == ("any", "any")
    del real["Refused"]
    assert said == real


def test_no_other_module_defines_an_error() -> None:
    """Or this test and the tree would not know of it."""
    found = {error.__module__ for _, error in classes(ServiceError)}
    assert found == {"serve_app.errors", *ELSEWHERE}
    package = Path(errors.__file__).parent
    bases = "|".join(error.__name__ for _, error in classes(ServiceError))
    defining = {
        ".".join(("serve_app", *path.relative_to(package).with_suffix("").parts))
        for path in package.rglob("*.py")
        if re.search(rf"^class \w+\(({bases})\)", path.read_text(), re.MULTILINE)
    }
    assert defining == found
