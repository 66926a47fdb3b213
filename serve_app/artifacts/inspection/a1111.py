"""The `parameters` text of AUTOMATIC1111's web UI, which Forge, SD.Next and many others write too.

Knows the format only: prompt, `Negative prompt:`, and a last line of pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from serve_app.artifacts.inspection.recipe import Recipe, number, whole

_NEGATIVE = "Negative prompt:"
_FEWEST_PAIRS = 3
_LONGEST_KEY = 60


def read_infotext(infotext: str) -> Recipe | None:
    """None: its end is no line of settings."""
    lines = infotext.strip().split("\n")
    pairs = dict(_pairs(lines[-1]))
    if len(pairs) < _FEWEST_PAIRS or not pairs.keys() & {"Steps", "Seed", "Sampler"}:
        return None
    positive, negative = list[str](), list[str]()
    part = positive
    for line in lines[:-1]:
        if part is positive and line.startswith(_NEGATIVE):
            part, line = negative, line.removeprefix(_NEGATIVE)
        part.append(line)
    width, _, height = pairs.get("Size", "").partition("x")
    return Recipe(
        program="automatic1111",
        prompt="\n".join(positive).strip(),
        negative_prompt="\n".join(negative).strip(),
        seed=whole(pairs.get("Seed")),
        steps=whole(pairs.get("Steps")),
        guidance_scale=number(pairs.get("CFG scale")),
        sampler=pairs.get("Sampler", ""),
        schedule=pairs.get("Schedule type", ""),
        model=pairs.get("Model", ""),
        width=whole(width),
        height=whole(height),
    )


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """`key: value, key: "a value, quoted as JSON"`. Reads each character once."""
    at = 0
    while at < len(line):
        colon = line.find(":", at, at + _LONGEST_KEY)
        if colon < 0:
            return
        key, start = line[at:colon].strip(" ,"), colon + 1
        while start < len(line) and line[start] == " ":
            start += 1
        if line[start : start + 1] == '"':
            try:
                value, end = json.JSONDecoder(strict=False).raw_decode(line, start)
            except ValueError:
                return
        else:
            end = line.find(",", start)
            end = len(line) if end < 0 else end
            value = line[start:end].strip()
        yield key, str(value)
        at = end + 1
