"""Cleaning: removes files that no job publishes, and finds the jobs that have been kept long enough.

Knows rows and files; decides nothing about jobs that live.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, Protocol

from serve_app.jobs.job import Job
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import ImageFile, Summary

log = logging.getLogger("assets.registry")

RETIRE_EVERY_S = 30.0  # seconds between two looks for jobs that have been kept long enough
RETIRED_AT_ONCE = 100  # jobs per transaction


class JobFiles(Protocol):
    """The methods of `artifacts.OutputDir` that cleaning needs. Paths are relative to that folder."""

    def files_of(self, job_ids: Iterable[str]) -> dict[str, list[str]]:
        """Job id -> every file that an attempt at it wrote, temporary ones too. Reads folders."""
        ...

    def names_for(self, job_id: str, summary: Summary, fence: int) -> list[str]:
        """Every path that attempts up to `fence` may have written, temporary ones too. Reads nothing."""
        ...

    def remove(self, paths: Iterable[str]) -> int: ...


class Cleaning:
    """Nothing here raises when a file or the disk fails: it is logged, and tried again later."""

    def __init__(self, store: SqliteStore, files: JobFiles) -> None:
        self._store, self._files = store, files

    async def sweep(self) -> None:
        """Remove what attempts left behind before this start of the registry. Only jobs that took more than
        one attempt, or did not succeed, can have left files. Files of jobs that the store does not know
        belong to somebody else and stay."""
        try:
            published = await self._store.littering()
            await asyncio.to_thread(self._sweep, published)
            await self._store.swept()
        except (OSError, sqlite3.Error) as error:
            log.error("sweep stopped, the next start goes on: %s", error)

    async def remove(self, jobs: Iterable[Job], *, but: Iterable[ImageFile] = ()) -> None:
        """Remove whatever attempts at these jobs, up to their fences, have written. `but`: files to keep."""
        kept = {image["path"] for image in but}
        names = self._files.names_for
        paths = [path for job in jobs for path in names(job.job_id, job.summary, job.fence)]
        with contextlib.suppress(OSError):  # the sweep at the next start removes them
            await asyncio.to_thread(
                self._files.remove, [path for path in paths if path not in kept]
            )

    async def retire(
        self,
        before: Callable[[], float | None],
        bury: Callable[[list[Job], Literal["expired"]], Awaitable[None]],
    ) -> None:
        """Call `bury` with the jobs that ended before `before()` (unix seconds), for ever. While `before()`
        is None, finished jobs are kept."""
        while True:
            try:
                moment = before()
                jobs = await self._store.ended_before(moment, RETIRED_AT_ONCE) if moment else []
                await bury(jobs, "expired")
            except sqlite3.Error as error:
                log.error("retention stopped for now: %s", error)
                jobs = []
            if len(jobs) < RETIRED_AT_ONCE:
                await asyncio.sleep(RETIRE_EVERY_S)

    def _sweep(self, published: dict[str, set[str]]) -> None:
        for job_id, paths in self._files.files_of(published).items():
            self._files.remove(path for path in paths if path not in published[job_id])
