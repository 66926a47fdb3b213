"""open_registry: opens the store and starts a registry on it, and tries again until that works.

Knows nothing of Ray. Until it returns, no call is answered; what was accepted before is on disk.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sqlite3
from collections.abc import Callable

from serve_app.errors import ConfigError, StoreHeld
from serve_app.jobs.registry import JobRegistry
from serve_app.jobs.store.sqlite import SqliteStore

log = logging.getLogger("assets.registry")

PAUSE_S = (0.5, 10.0)  # seconds between two tries: at first, at most


async def open_registry(
    open_store: Callable[[], SqliteStore],
    registry_on: Callable[[SqliteStore], JobRegistry],
    store: SqliteStore | None = None,
) -> JobRegistry:
    """A started registry, on `store` if that is given and good. Waits for a disk that is full, read-only or
    away, for a Redis that is away or has other settings than it must, and for an older registry that still
    holds the store."""
    pause, longest = PAUSE_S
    while True:
        try:
            registry = await _started(registry_on(store or await asyncio.to_thread(open_store)))
            gc.collect()
            gc.freeze()  # scanning 100,000 waiting jobs would pause the loop for 80 ms
            return registry
        except (OSError, sqlite3.Error, StoreHeld, ConfigError) as error:
            log.error("the registry cannot start yet: %s", error)
        store = None
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)


async def _started(registry: JobRegistry) -> JobRegistry:
    try:
        await registry.start()
    except BaseException:
        await registry.close()  # releases the lock
        raise
    return registry
