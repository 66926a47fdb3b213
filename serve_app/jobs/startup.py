"""open_registry: a registry on its store, as soon as the disk allows it.

Knows nothing of Ray. While it tries, nobody is answered, and nothing that was accepted is lost.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sqlite3
from collections.abc import Callable

from serve_app.errors import StoreHeld
from serve_app.jobs.registry import JobRegistry
from serve_app.jobs.store.sqlite import SqliteStore

log = logging.getLogger("assets.registry")

PAUSE_S = (0.5, 10.0)  # first and longest


async def open_registry(
    open_store: Callable[[], SqliteStore],
    registry_on: Callable[[SqliteStore], JobRegistry],
    store: SqliteStore | None = None,
) -> JobRegistry:
    """A started registry, on `store` if it is given and good. A disk that is full, read-only or away, and
    a predecessor that is slow to die, are waited for."""
    pause, longest = PAUSE_S
    while True:
        try:
            registry = await _started(registry_on(store or await asyncio.to_thread(open_store)))
            gc.collect()
            gc.freeze()  # scanning 100,000 waiting jobs would pause the loop for 80 ms
            return registry
        except (OSError, sqlite3.Error, StoreHeld) as error:
            log.error("the registry cannot start yet: %s", error)
        store = None
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)


async def _started(registry: JobRegistry) -> JobRegistry:
    try:
        await registry.start()
    except BaseException:
        await registry.close()  # and with it the lock
        raise
    return registry
