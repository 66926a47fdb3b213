"""Seats: a limit on the requests that stay open, and a stream response that takes one of them.

Knows the limit and Starlette's response; nothing of jobs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from serve_app.errors import TooManyStreams

PING_S = 15
SEND_TIMEOUT_S = 30.0

log = logging.getLogger("assets.api")


class Seats:
    """A counter with a limit: streams and held answers of one ingress process."""

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
    """An event stream that occupies a seat while it is sent. The seat is taken when sending starts, and
    `prepare` is called only then: who gets no seat costs nothing, and a seat that is taken is left."""

    def __init__(
        self,
        events: AsyncGenerator[ServerSentEvent],
        seats: Seats,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(events, ping=PING_S, send_timeout=SEND_TIMEOUT_S)
        self._seats = seats
        self._prepare = prepare

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._seats.taking():
            if self._prepare is not None:
                await self._prepare()
            try:
                await super().__call__(scope, receive, send)
            except SendTimeoutError:
                log.info("stream ended: its reader took nothing for %g s", SEND_TIMEOUT_S)
