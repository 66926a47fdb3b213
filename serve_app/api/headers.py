"""Request headers, parsed: `Prefer`, `Cancel-After`, `X-Client-Id`, `If-None-Match`, `Last-Event-ID`.

Knows their text and its limits; not what is done with it.
"""

from __future__ import annotations

import re

from serve_app.errors import InvalidParameter
from serve_app.secret_files import OWNER, OWNER_IN_WORDS

LONGEST_WAIT_S = 60
LONGEST_LIFE_S = 30 * 86_400
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,18})\"?", re.IGNORECASE)
_DURATION = re.compile(r"(?:([0-9]{1,7})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,9})s)?|([0-9]{1,9})")


def wait_seconds(prefer: str | None) -> int | None:
    """N of `Prefer: wait=N` (RFC 7240), at most LONGEST_WAIT_S; None: not given. What cannot be honoured is
    ignored, as the RFC wants: other preferences, and a wait that is no number."""
    for preference in (prefer or "").split(","):
        match = _WAIT.fullmatch(preference.partition(";")[0].strip())
        if match is not None:
            return min(int(match[1]), LONGEST_WAIT_S)
    return None


def life_seconds(cancel_after: str | None) -> float | None:
    """Seconds of `Cancel-After: 90`, `90s` or `1h30m`; None: not given. Raises InvalidParameter."""
    if cancel_after is None:
        return None
    match = _DURATION.fullmatch(cancel_after.strip())
    if match is None or not any(match.groups()):
        seconds = 0
    else:
        hours, minutes, rest, alone = (int(part or 0) for part in match.groups())
        seconds = 3600 * hours + 60 * minutes + rest + alone
    if not 0 < seconds <= LONGEST_LIFE_S:
        allowed = [f"seconds from 1 to {LONGEST_LIFE_S}, or like 90s, 15m, 1h30m"]
        raise InvalidParameter("Cancel-After", "no such time", allowed)
    return seconds


def client_name(given: str | None, owner: str, *, keys: bool) -> str:
    """The client that fairness counts a job for: the owner of the API key or, where there are no keys, the
    name in `X-Client-Id`. Raises InvalidParameter."""
    if keys or given is None:
        return owner
    if not OWNER.fullmatch(given):
        raise InvalidParameter("X-Client-Id", "no such name", [OWNER_IN_WORDS])
    return given


def names_revision(if_none_match: str, rev: str) -> bool:
    """`If-None-Match` lists this revision. Weak and strong ETags compare equal (RFC 9110)."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return f'"{rev}"' in tags or "*" in tags


def last_revision(last_event_id: str | None) -> tuple[int, int] | None:
    """(epoch, number) of `Last-Event-ID`; None: not given, or no `id` that this service sends."""
    epoch, _, number = (last_event_id or "").partition(".")
    if not (epoch.isdecimal() and number.isdecimal() and len(epoch + number) < 30):
        return None
    return int(epoch), int(number)
