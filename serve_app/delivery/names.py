"""Names of frames and clips: the same in every format, and safe as file, CSS class and JSON key.

Knows no format. A name that is not safe is refused, never changed behind somebody's back; `safe_name`
makes a safe one where there is nobody to ask, of the files of a folder.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from string import digits

MAX_NAME = 100  # characters; a file system allows 255 bytes, and names get endings
MAX_WORDS = 48  # characters of a prompt in a name
ALLOWED = f"A-Z a-z 0-9, then also _ and -; up to {MAX_NAME} characters"

_SAFE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_NAME - 1}}}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)  # on Windows


def name_problem(name: str) -> str | None:
    """What is wrong with a name, or None."""
    if _DEVICES.fullmatch(name):
        return f"{name!r} is a device on Windows and cannot name a file there"
    if _SAFE.fullmatch(name):
        return None
    shown = name if len(name) <= 40 else f"{name[:40]}..."
    return f"{shown!r} is not a name: {ALLOWED}. Safe would be {safe_name(name)!r}"


def safe_name(text: str) -> str:
    """The nearest safe name: accents dropped, each run of other characters one `_`, cut to length.

    Different texts may get the same name; whoever uses it must look for that.
    """
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_-")[:MAX_NAME] or "sprite"
    return f"{safe}_" if _DEVICES.fullmatch(safe) else safe


def readable_name(text: str, seed: int) -> str:
    """Of a picture that a prompt and a seed made, as `red_potion_7`."""
    words = safe_name(text).lower()[:MAX_WORDS].rstrip("_-")
    return f"{words}_{seed}"


def unique_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The first of equal names stays, the next ones get `_2`, `_3`, ... Case makes no difference."""
    used, found = {name.casefold() for name in taken}, list[str]()
    for name in names:
        free, number = name, 1
        while free.casefold() in used:
            number += 1
            free = f"{name}_{number}"
        used.add(free.casefold())
        found.append(free)
    return found


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts walk_2 before walk_10, and no two names alike."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(part), "") if part[0] in digits else (-1, part) for part in parts], name
