"""What a request says in its headers: `Prefer`, `Cancel-After`, `X-Client-Id`. And what it may say there.

Knows text only.
"""

from __future__ import annotations

import re

from serve_app.api.keys import OWNER
from serve_app.errors import InvalidParameter

LONGEST_WAIT_S = 60
LONGEST_LIFE_S = 30 * 86_400
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,6})\"?", re.IGNORECASE)
_DURATION = re.compile(r"(?:([0-9]{1,7})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,9})s)?|([0-9]{1,9})")


def wait_seconds(prefer: str | None) -> int | None:
    """N of `Prefer: wait=N` (RFC 7240); None: not said. Other preferences are not ours to judge."""
    for preference in (prefer or "").split(","):
        text = preference.partition(";")[0].strip()
        if text.partition("=")[0].strip().lower() != "wait":
            continue
        match = _WAIT.fullmatch(text)
        if match is None or int(match[1]) > LONGEST_WAIT_S:
            allowed = [f"wait=0 to wait={LONGEST_WAIT_S}"]
            raise InvalidParameter(
                "Prefer", "waits a whole number of seconds, not too many", allowed
            )
        return int(match[1])
    return None


def life_seconds(cancel_after: str | None) -> float | None:
    """Seconds of `Cancel-After: 90`, `90s` or `1h30m`; None: not said."""
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
    """Whom a job is counted for: the owner of the key; without keys, whoever the client says it is."""
    if keys or given is None:
        return owner
    if not OWNER.fullmatch(given):
        raise InvalidParameter("X-Client-Id", "no such name", [OWNER.pattern])
    return given
