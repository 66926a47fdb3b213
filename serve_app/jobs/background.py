"""Background: coroutines that belong to nobody's call, held until they end.

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
        # An empty context: what runs here must not belong to the call that happened to start it, or
        # cancelling that call (a client hung up) would cancel this too.
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def complete(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result. It runs to its end even if whoever asked is cancelled: what is on disk, in memory
        and told to the engines must not come apart."""
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel what runs and wait until it is gone."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("registry task failed", exc_info=error)
