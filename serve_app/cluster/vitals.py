"""Vitals: what tells an operator, before anybody complains, that the registry or a disk is in trouble.

Measures and reports; decides nothing and knows no job.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.metrics import JobMetrics, VitalMetrics

EVERY_S = 5.0
TICK_S = 0.25
"""So often the loop is asked for a moment; what it is late by is its lag."""


class Facts(Protocol):
    """The methods of `JobRegistry` that are needed here."""

    def stats(self) -> dict[str, Any]: ...


class Vitals:
    """`output_dir`: where files are stored now. Gauges are set again even if nothing has changed: Ray's agent
    forgets those that are not."""

    def __init__(
        self,
        metrics: VitalMetrics,
        jobs: JobMetrics,
        state_dir: Path,
        output_dir: Callable[[], str],
    ) -> None:
        self._metrics, self._jobs = metrics, jobs
        self._state, self._output = state_dir, output_dir

    async def report(self, registry: Facts, store: SqliteStore) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        while True:
            ends, lag = loop.time() + EVERY_S, 0.0
            while (now := loop.time()) < ends:
                await asyncio.sleep(TICK_S)
                lag = max(lag, loop.time() - now - TICK_S)
            self._metrics.lag(lag)
            await self._look(registry, store)

    async def _look(self, registry: Facts, store: SqliteStore) -> None:
        self._metrics.commit(store.take_slowest_commit(), store.take_sent())
        stats = registry.stats()
        self._jobs.depth(stats["waiting"], stats["in_flight"])
        paused: str | None = stats["paused"]
        self._metrics.paused(paused and paused.partition(":")[0])  # without why a model is missing
        with suppress(sqlite3.Error):  # the disk is in trouble: the others tell of it
            since = await store.oldest_waiting()
            self._metrics.oldest_waiting(0.0 if since is None else max(0.0, time.time() - since))
        for disk, folder in ("state", self._state), ("output", Path(self._output())):
            with suppress(OSError):
                free = await asyncio.to_thread(shutil.disk_usage, folder)
                self._metrics.free(disk, free.free)
