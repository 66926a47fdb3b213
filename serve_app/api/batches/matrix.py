"""A matrix as orders: prompts with wildcards, times styles, sizes and seeds.

How many there will be is known before any is made. Knows texts; not what an order may hold.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from serve_app.api.batches.orders import Matrix
from serve_app.errors import InvalidField

MANY = 10**12
"""Orders that nobody counts any further."""
_PARTS = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


def orders_of(matrix: Matrix, most: int, longest: int) -> list[dict[str, Any]]:
    """Fields of each order. Raises InvalidField: a wildcard is wrong, they are more than `most`, or a prompt
    has more than `longest` characters; nothing is written out before that is known."""
    templates = [
        _template(text, matrix.lists, f"matrix.prompts.{i}")
        for i, text in enumerate(matrix.prompts)
    ]
    axes: dict[str, Sequence[Any]] = {
        name: values
        for name, values in (
            ("style_id", matrix.styles),
            ("size", matrix.sizes),
            ("seed", matrix.seeds),
        )
        if values is not None
    }
    beside = math.prod(map(len, axes.values()))
    size = beside * sum(map(_combinations, templates))
    if size > most:
        counted = f"{size}" if size < MANY else f"{MANY} or more"
        raise InvalidField("matrix", f"{counted} orders, at most {most} are allowed")
    for i, template in enumerate(templates):
        length = sum(max(map(len, place)) for place in template)
        if length > longest:
            text = f"makes prompts of up to {length} characters, at most {longest} are allowed"
            raise InvalidField(f"matrix.prompts.{i}", text)
    return [
        {"prompt": prompt, **dict(zip(axes, values, strict=True))}
        for template in templates
        for prompt in _prompts(template)
        for values in itertools.product(*axes.values())
    ]


def _combinations(places: Sequence[Sequence[str]]) -> int:
    """MANY at most: the true number may have a million digits."""
    found = 1
    for place in places:
        found = min(MANY, found * len(place))
    return found


def _template(text: str, lists: Mapping[str, Sequence[str]], field: str) -> list[Sequence[str]]:
    """The prompt as places, each with the texts that may stand there."""
    places: list[Sequence[str]] = []
    for match in _PARTS.finditer(text):
        part, inner = match[0], match[1]
        if part in ("{{", "}}"):
            places.append((part[0],))
        elif inner is None:
            if part in "{}":
                raise InvalidField(
                    field,
                    f"the brace at character {match.start() + 1} has no partner, or stands inside another "
                    "wildcard",
                    ["{red|blue}", "{name} of a list in `lists`", "{{ and }} for braces"],
                )
            places.append((part,))
        elif "|" in inner:
            places.append(tuple(choice.strip() for choice in inner.split("|")))
        elif inner.strip() in lists:
            chosen = lists[inner.strip()]
            if not chosen:
                raise InvalidField(f"matrix.lists.{inner.strip()}", "is empty")
            places.append(chosen)
        else:
            known = [f"{{{name}}}" for name in lists]
            raise InvalidField(
                field, f"no list is called {inner.strip()!r}", ["{red|blue}", *known]
            )
    return places


def _prompts(places: Sequence[Sequence[str]]) -> Iterator[str]:
    for chosen in itertools.product(*places):
        yield " ".join("".join(chosen).split())
