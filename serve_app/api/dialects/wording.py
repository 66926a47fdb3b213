"""InDialect: words the errors below some paths as the clients of another interface read them.

Knows problem documents as they leave; not what was asked, nor why it failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.forwarded import path_of
from serve_app.api.problems import MEDIA_TYPE


@dataclass(frozen=True, slots=True)
class Reworded:
    """An error in the words of a dialect. `headers`: beside those of the problem."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dialect:
    """`prefix`: of its paths. `reword`: from a problem to the same in the dialect's words. `large`: media
    types of the bodies of paths that may be as large as a picture."""

    prefix: str
    reword: Callable[[dict[str, Any]], Reworded]
    large: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


class InDialect:
    """Stands outside of whatever may refuse a request, so that a missing key is worded right too."""

    def __init__(self, app: ASGIApp, dialects: Sequence[Dialect]) -> None:
        self._app, self._dialects = app, dialects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        spoken = self._spoken(scope)
        if spoken is None:
            await self._app(scope, receive, send)
            return
        held: Message | None = None
        body = bytearray()

        async def send_reworded(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                kind = MutableHeaders(scope=message).get("content-type")
                if kind == MEDIA_TYPE:
                    held = message
                    return
            if held is None:
                await send(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                for part in _messages(held, spoken.reword(json.loads(bytes(body)))):
                    await send(part)

        await self._app(scope, receive, send_reworded)

    def _spoken(self, scope: Scope) -> Dialect | None:
        if scope["type"] != "http":
            return None
        path = path_of(scope)
        return next((one for one in self._dialects if path.startswith(one.prefix)), None)


def _messages(start: Message, reworded: Reworded) -> tuple[Message, Message]:
    body = json.dumps(reworded.body).encode()
    start = {**start, "status": reworded.status}
    headers = MutableHeaders(scope=start)
    headers["content-type"] = "application/json"
    headers["content-length"] = str(len(body))
    for name, value in reworded.headers.items():
        headers[name] = value
    return start, {"type": "http.response.body", "body": body}


def sentence(problem: Mapping[str, Any]) -> str:
    """All that a problem says, as one text: each wrong field with what is allowed there."""
    errors = problem.get("errors") or []
    if not errors:
        return str(problem["detail"])
    said: list[str] = []
    for error in errors:
        allowed = ", ".join(map(str, error.get("allowed") or ()))
        said.append(
            f"{error['field']}: {error['detail']}" + (f" (allowed: {allowed})" * bool(allowed))
        )
    return "; ".join(said)
