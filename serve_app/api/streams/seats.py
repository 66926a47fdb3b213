"""Seats: a limit on the requests that stay open, each client's share of it, and a stream response that takes
one of them.

Knows the limit, names of clients and Starlette's response; nothing of jobs.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from serve_app.errors import StreamShareTaken, TooManyStreams

PING_S = 15
SEND_TIMEOUT_S = 30.0
GREED = 2
"""The more, the more one client may hold alone, and the less is left for who comes next."""

log = logging.getLogger("assets.api")


class Seats:
    """The streams and held answers of one ingress process, by client.

    A client gets another seat while it holds fewer than GREED times those that are free. So one alone may
    hold two thirds of them, each of two 40 %, and something is left for who comes next.
    (Dynamic thresholds, as switches share their buffers: Choudhury and Hahne, 1998.)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = Counter[str]()

    @property
    def taken(self) -> int:
        return self._held.total()

    def free_for(self, client: str) -> bool:
        return self._held[client] < GREED * (self.limit - self.taken)

    @contextlib.contextmanager
    def taking(self, client: str) -> Generator[None]:
        """Raises TooManyStreams, or StreamShareTaken if the client itself holds the most."""
        if not self.free_for(client):
            if (own := self._held[client]) > 0:
                raise StreamShareTaken(f"You have {own} open: close one, or come back.")
            raise TooManyStreams(f"{self.limit} streams are open already.")
        self._held[client] += 1
        try:
            yield
        finally:
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]


class SeatedResponse(EventSourceResponse):
    """An event stream that occupies a seat while it is sent. The seat is taken when sending starts, and
    `prepare` is called only then: a request that gets no seat costs nothing, and no seat stays occupied."""

    def __init__(
        self,
        events: AsyncGenerator[ServerSentEvent],
        seats: Seats,
        client: str,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(events, ping=PING_S, send_timeout=SEND_TIMEOUT_S)
        self._seats, self._client = seats, client
        self._prepare = prepare

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._seats.taking(self._client):
            if self._prepare is not None:
                await self._prepare()
            try:
                await super().__call__(scope, receive, send)
            except SendTimeoutError:
                log.info("stream ended: its reader took nothing for %g s", SEND_TIMEOUT_S)
