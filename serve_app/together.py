"""Together: calls that come while a trip is under way go out together in the next one.

Knows nothing of what is called. A lone call waits for nobody; under load one trip carries many.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Sent = TypeVar("Sent")
Answer = TypeVar("Answer")


class Together(Generic[Sent, Answer]):
    """`send_all` answers a list of at most `at_most` items in their order; if it raises, so does
    every call of that trip."""

    def __init__(
        self, send_all: Callable[[list[Sent]], Awaitable[Sequence[Answer]]], at_most: int = 256
    ) -> None:
        self._send_all, self._at_most = send_all, at_most
        self._waiting: list[tuple[Sent, asyncio.Future[Answer]]] = []
        self._trips: asyncio.Task[None] | None = None

    async def send(self, item: Sent) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._trips is None:
            # An empty context: the trip belongs to none of the calls that it carries.
            self._trips = asyncio.create_task(self._travel(), context=contextvars.Context())
        return await answer

    def __len__(self) -> int:
        """Calls that wait for the next trip."""
        return len(self._waiting)

    async def _travel(self) -> None:
        try:
            while self._waiting:
                trip, self._waiting = self._waiting[: self._at_most], self._waiting[self._at_most :]
                await self._one_trip(trip)
        finally:
            self._trips = None

    async def _one_trip(self, trip: list[tuple[Sent, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._send_all([item for item, _ in trip])
        except Exception as error:
            for _, future in trip:
                if not future.done():  # its caller gave up
                    future.set_exception(error)
            return
        for (_, future), answer in zip(trip, answers, strict=True):
            if not future.done():
                future.set_result(answer)
