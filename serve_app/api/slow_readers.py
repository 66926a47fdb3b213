"""SlowReaders: leaves a client that asks for a file and takes nothing of it, so that it does not keep its
place among the requests of an ingress.

Knows ASGI messages. Event streams have a limit of their own (`streams/seats.py`).
"""

from __future__ import annotations

import asyncio
import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SEND_TIMEOUT_S = 30.0
"""The longest that a piece of an answer, some 64 KiB, may wait. Each that is taken gives as long again."""

EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")

log = logging.getLogger("assets.api")


class _Stuck(Exception):
    """The client took nothing of its answer for SEND_TIMEOUT_S."""


class SlowReaders:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        streams = in_pieces = False

        async def send_in_time(message: Message) -> None:
            nonlocal streams, in_pieces
            if message["type"] == "http.response.start":
                streams = EVENT_STREAM in message["headers"]
            in_pieces = in_pieces or message.get("more_body", False)
            if streams or not in_pieces:  # what is one piece waits for none before it
                await send(message)
                return
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await send(message)
            except TimeoutError as error:
                raise _Stuck from error

        try:
            await self._app(scope, receive, send_in_time)
        except _Stuck:
            log.info("an answer was left: its client took nothing for %g s", SEND_TIMEOUT_S)
