"""Names of many files from one template, as `{style}/{row:4}_{name}`.

Each name is safe on every system, and no two are the same. Knows fields as text; nothing of jobs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from serve_app.delivery.names import safe_name

FIELDS = ("row", "name", "prompt", "style", "seed", "index", "job", "model")
DEFAULT = "{row:5}_{name}"
MAX_TEMPLATE = 200
_FIELD = re.compile(r"\{([a-z]+)(?::0?([1-9]))?\}")


class NameTemplate:
    """`{field}` stands for its value, `{field:4}` for a number of at least four digits, `/` begins a
    folder."""

    def __init__(self, template: str) -> None:
        """Raises ValueError, which says what is wrong."""
        left = _FIELD.sub("", template)
        if "{" in left or "}" in left or not template.strip("/ "):
            raise ValueError("is no template of names")
        for name, _ in _FIELD.findall(template):
            if name not in FIELDS:
                raise ValueError(f"has no field {name!r}")
        self._template = template
        self._used: set[str] = set()
        self._next: dict[str, int] = {}  # the number that made the last of equal names free

    def name(self, values: Mapping[str, object], suffix: str) -> str:
        """A new path of this ending, which none before had. `values`: of each of FIELDS."""

        def filled(match: re.Match[str]) -> str:
            text = safe_name(str(values[match[1]]))
            return text.zfill(int(match[2])) if match[2] else text

        whole = _FIELD.sub(filled, self._template)
        path = "/".join(safe_name(part) for part in whole.split("/") if part.strip())
        free, number = path, self._next.get(path.casefold(), 1)
        while free.casefold() in self._used:
            number += 1
            free = f"{path}_{number}"
        self._next[path.casefold()] = number
        self._used.add(free.casefold())
        return f"{free}{suffix}"
