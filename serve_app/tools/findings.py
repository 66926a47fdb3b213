"""Finding: one thing that an operator is told by `assets doctor`, and what to do about it.

Knows neither what is looked at nor how it is printed.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "note", "wrong"]


class Finding(NamedTuple):
    level: Level
    what: str
    said: str
    advice: str = ""
