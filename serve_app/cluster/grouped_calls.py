"""GroupedCalls: calls that are made together travel together: a call costs the registry more than its work.

Knows asyncio; how a group is sent, it is told.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

MOST = 64  # calls in a group


class Call(NamedTuple):
    args: tuple[Any, ...]
    answer: asyncio.Future[Any]


class GroupedCalls:
    """A call goes at once while none is on its way. Otherwise it waits until that one is back, and goes with
    all that wait: so nothing is delayed where little happens, and each call costs less the more there are.
    Two groups on their way would be half as large each: measured, an order then costs a tenth more.

    `send(many)` takes the arguments of each call and returns, in the same places, results or exceptions.
    """

    def __init__(self, send: Callable[[list[tuple[Any, ...]]], Awaitable[list[Any]]]) -> None:
        self._send = send
        self._waiting: list[Call] = []
        self._sending: asyncio.Task[None] | None = None

    async def call(self, *args: Any) -> Any:
        """Raises what became of this call, or of the whole group. A call that is given up while it waits is
        not sent."""
        loop = asyncio.get_running_loop()
        call = Call(args, loop.create_future())
        self._waiting.append(call)
        if self._sending is None:
            # In an empty context: Serve cancels what was begun in the context of a client that hangs up.
            self._sending = loop.create_task(self._send_waiting(), context=contextvars.Context())
        return await call.answer

    async def _send_waiting(self) -> None:
        try:
            while group := self._next_group():
                await self._send_group(group)
        finally:
            self._sending = None

    async def _send_group(self, group: list[Call]) -> None:
        try:
            results = await self._send([call.args for call in group])
        except Exception as error:  # whatever it is, each of the callers must hear of it
            results = [error] * len(group)
        for call, result in zip(group, results, strict=True):
            if call.answer.done():
                continue
            if isinstance(result, BaseException):
                call.answer.set_exception(result)
            else:
                call.answer.set_result(result)

    def _next_group(self) -> list[Call]:
        wanted = [call for call in self._waiting if not call.answer.done()]
        self._waiting = wanted[MOST:]
        return wanted[:MOST]
