"""Grants: what a key may do, how often and how much, as the words after it in the file of keys say.

Knows no HTTP, and nothing of what was used: each process counts its own requests, and the registry the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from serve_app.messages import Allowance

READ, ORDER, ADMIN = "read", "order", "admin"
SCOPES: Final = (READ, ORDER, ADMIN)
"""`read`: look at what is one's own. `order`: order, cancel, change and delete it. `admin`: rule the service.
None includes another."""
_PER = {"s": 1, "min": 60, "h": 3600}
_SIZES = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_RATE = re.compile(r"([0-9]{1,9})/(s|min|h)")
_SIZE = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,3})?)(|kB|MB|GB|TB)")
_COUNT = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds; as many may come at once."""

    requests: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.requests}/{next(name for name, s in _PER.items() if s == self.seconds)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """`quota`: bounds on what its owner has and uses; what is not in it has none."""

    scopes: frozenset[str] = frozenset({READ, ORDER})
    rate: Rate | None = None
    quota: Allowance = field(default_factory=lambda: Allowance())

    @property
    def words(self) -> str:
        """As a file of keys has them."""
        said = [f"scopes={','.join(s for s in SCOPES if s in self.scopes)}"]
        if self.scopes == Grant().scopes:
            said = []
        if self.rate is not None:
            said.append(f"rate={self.rate}")
        return " ".join([*said, *(f"{name}={value}" for name, value in self.quota.items())])


EVERYTHING = Grant(scopes=frozenset(SCOPES))
"""Of whoever asks where no keys are used: they can do as they like on this host anyway."""
CURRENT: ContextVar[Grant] = ContextVar("grant", default=EVERYTHING)
"""Of the request that is being answered."""


def grant_of(words: str) -> Grant:
    """Raises ValueError, which names the word and what it may be."""
    said: dict[str, Any] = {}
    for word in words.split():
        name, _, value = word.partition("=")
        if name not in _READERS:
            # Not shown: somebody may have put the key itself there.
            raise ValueError(f"after the key stands a word that is none of {', '.join(_READERS)}")
        if name in said:
            raise ValueError(f"{name} is said twice")
        said[name] = _READERS[name](value)
    scopes, rate = said.pop("scopes", Grant().scopes), said.pop("rate", None)
    return Grant(scopes=scopes, rate=rate, quota=Allowance(**said))


def _scopes(text: str) -> frozenset[str]:
    found = frozenset(text.split(","))
    if not found <= set(SCOPES):
        raise ValueError(f"scopes are some of {', '.join(SCOPES)}, with commas between them")
    return found


def _rate(text: str) -> Rate:
    match = _RATE.fullmatch(text)
    if match is None or not int(match[1]):
        raise ValueError("rate is like 10/s, 600/min or 5000/h, and not 0")
    return Rate(int(match[1]), _PER[match[2]])


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text):
        raise ValueError("waiting_jobs and device_seconds are whole numbers from 0 on")
    return int(text)


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("kept_bytes is like 500MB, 10GB or 1.5TB, or a number of bytes")
    return int(float(match[1]) * _SIZES[match[2]])


_READERS: Mapping[str, Callable[[str], Any]] = {
    "scopes": _scopes,
    "rate": _rate,
    "waiting_jobs": _count,
    "device_seconds": _count,
    "kept_bytes": _size,
}


class Buckets:
    """Requests that each key may still make. A bucket fills evenly, up to what may come at once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: dict[str, tuple[Rate, float, float]] = {}  # what was left, and when

    def take(self, key: str, rate: Rate) -> float | None:
        """Seconds until the next request is allowed. None: this one is, and counts. A key whose rate was
        changed starts anew."""
        now = self._clock()
        before, left, at = self._left.get(key, (rate, float(rate.requests), now))
        if before != rate:
            left, at = float(rate.requests), now
        left = min(rate.requests, left + (now - at) * rate.requests / rate.seconds)
        if left < 1:
            self._left[key] = (rate, left, now)
            return (1 - left) * rate.seconds / rate.requests
        self._left[key] = (rate, left - 1, now)
        return None
