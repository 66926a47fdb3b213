"""Seats: how many requests may stay open at a time, and a stream that has one while it is sent.

Knows the limit and Starlette's response; nothing of jobs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Generator

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from serve_app.errors import TooManyStreams

PING_S = 15
SEND_TIMEOUT_S = 30.0

log = logging.getLogger("assets.api")


class Seats:
    """How many requests may stay open at a time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    @property
    def free(self) -> bool:
        return self.taken < self.limit

    def must_be_free(self) -> None:
        """Raises TooManyStreams."""
        if not self.free:
            raise TooManyStreams(f"{self.limit} streams are open already.")

    @contextlib.contextmanager
    def taking(self) -> Generator[None]:
        """Raises TooManyStreams."""
        self.must_be_free()
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class SeatedResponse(EventSourceResponse):
    """Has a seat while it is sent. Taken here, not when the route returns: in between others come."""

    def __init__(self, events: AsyncGenerator[ServerSentEvent], seats: Seats) -> None:
        super().__init__(events, ping=PING_S, send_timeout=SEND_TIMEOUT_S)
        self._seats = seats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._seats.taking():
            try:
                await super().__call__(scope, receive, send)
            except SendTimeoutError:
                log.info("a stream ends: nobody has read it for %g s", SEND_TIMEOUT_S)
