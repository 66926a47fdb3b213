"""audit: a line of the log for every request that takes something away or changes it, whoever sent it.

Knows methods and paths, and the owner that `security.KeyGuard` found; nothing of what was changed.
"""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.forwarded import path_of

log = logging.getLogger("assets.audit")

METHODS = frozenset({"DELETE", "PATCH", "PUT"})
ENDINGS = ("/cancel", "/retry", "/redeliver", "/interrupt")
"""Of POSTs that change what is there. Others order something new, and the new job tells of itself."""


class Audit:
    """Also tells of what was refused: the status says so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _changes(scope["method"], path_of(scope)):
            await self._app(scope, receive, send)
            return
        status = 500

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception as error:
            status = getattr(error, "status", None) or getattr(error, "status_code", status)
            raise
        finally:
            state = scope.get("state", {})
            about = {"owner": state.get("owner"), "request_id": state.get("request_id")}
            log.info("%s %s %d", scope["method"], path_of(scope), status, extra=about)


def _changes(method: str, path: str) -> bool:
    return method in METHODS or (method == "POST" and path.endswith(ENDINGS))
