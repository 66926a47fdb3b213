"""Unread: an answer that was given before its request's body was read reaches the client all the same.

Knows ASGI messages; not what was asked. A server that closes a connection with bytes unread resets it, and a
client that sends all before it reads loses the answer. So the answer goes out first, and what still comes of
the body is read and thrown away, within limits (RFC 9112, 9.6; nginx's `lingering_close`).
"""

from __future__ import annotations

import asyncio
import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 128 * 2**20
MOST_S = 30.0
IDLE_S = 2.0  # a client that sends nothing for so long is waiting for the answer, or gone
MOST_AT_ONCE = 100
"""Requests whose rest is read at a time. Others end at once: nobody may take an ingress's places so."""

log = logging.getLogger("assets.api")


class UnreadBodies:
    """Everything inside it also sees a connection that fails as a client that has left."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lingering = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def received() -> Message:
            return await _received(receive)

        if not _has_body(scope):
            await self._app(scope, received, send)
            return
        unread = True

        async def receive_noted() -> Message:
            nonlocal unread
            message = await received()
            unread = unread and message.get("more_body", False)
            return message

        async def send_first(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not (last and unread) or self._lingering >= MOST_AT_ONCE:
                await send(message)
                return
            await send({**message, "more_body": True})
            self._lingering += 1
            try:
                await _read_on(receive)
            finally:
                self._lingering -= 1
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, receive_noted, send_first)


def _has_body(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False


async def _received(receive: Receive) -> Message:
    try:
        return await receive()
    except Exception:
        # Serve raises whatever its own machinery does when the client's request is gone.
        log.debug("the way to the client is broken", exc_info=True)
        return {"type": "http.disconnect"}


async def _read_on(receive: Receive) -> None:
    """Returns when the body has ended, the client has left, or a limit is reached."""
    read = 0
    try:
        async with asyncio.timeout(MOST_S):
            while read <= MOST_BYTES:
                async with asyncio.timeout(IDLE_S):
                    message = await _received(receive)
                read += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
