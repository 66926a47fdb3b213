"""Background: coroutines that go on after the call that started them, held until they end.

Knows nothing of what they do.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger("assets.registry")


class Background:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()  # asyncio itself holds tasks only weakly

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it. An exception is logged."""
        # In an empty context: Ray cancels whatever runs in the context of a call that is cancelled, and a
        # client that hangs up cancels its call.
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def complete(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it and return its result. If the caller is cancelled, it still runs to its end: a change must
        not stop between the disk, the memory and the engines."""
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel everything that runs, and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("registry task failed", exc_info=error)
