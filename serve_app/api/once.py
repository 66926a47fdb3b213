"""Once: what may be said once and is said twice is refused: a header, a query parameter, a name in a JSON
object. Whichever of the two counted, somebody meant the other.

Knows which of them are lists; not what anything means.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.errors import BadRequest, InvalidParameter

SINGLE = frozenset(
    name.encode()
    for name in (
        "host", "content-type", "content-encoding", "authorization", "x-api-key",
        "idempotency-key", "cancel-after", "x-client-id", "last-event-id",
    )
)  # fmt: skip
LISTS = frozenset({b"prefer", b"if-none-match"})
"""Several lines of these are one list (RFC 9110, 5.3)."""
LIST_PARAMETERS = frozenset({"status", "webhook_events_filter"})


class HeaderGuard:
    """Refuses a second line of a header that has one value. Joins those of a list."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            names = [name for name, _ in scope["headers"]]
            if len(set(names)) < len(names):
                scope = {**scope, "headers": _joined(scope["headers"])}
        await self._app(scope, receive, send)


def _joined(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    lines = Counter(name for name, _ in headers)
    for name in SINGLE:
        if lines[name] > 1:
            raise BadRequest(f"The header {name.decode()} came {lines[name]} times. Send it once.")
    others = [(name, value) for name, value in headers if name not in LISTS]
    for name in LISTS & lines.keys():
        others.append((name, b", ".join(value for other, value in headers if other == name)))
    return others


async def query_once(request: Request) -> None:
    """A dependency of routes that take a query."""
    lines = Counter(name for name, _ in request.query_params.multi_items())
    for name, times in lines.items():
        if times > 1 and name not in LIST_PARAMETERS:
            raise InvalidParameter(name, f"It came {times} times. Send it once.")


def check_names(body: bytes) -> None:
    """Raises BadRequest if an object of this JSON has a name twice, or the JSON is UTF-16 or UTF-32, which
    Python would read. Says nothing of what is no JSON: whoever reads the body does."""
    encoding = json.detect_encoding(body)
    if not encoding.startswith("utf-8"):
        raise BadRequest(f"The body is not UTF-8 but {encoding}.", code="invalid_json")
    try:
        json.loads(body, object_pairs_hook=_checked)
    except (ValueError, RecursionError):
        return


def _checked(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        (name, times), *_ = Counter(name for name, _ in pairs).most_common(1)
        detail = f"An object of the body has the name {json.dumps(name[:60])} {times} times."
        raise BadRequest(detail, code="invalid_json")
