"""Cleaning: files that nobody published, and jobs whose time is over.

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

RETIRE_EVERY_S = 30.0
RETIRED_AT_ONCE = 100  # jobs per transaction


class JobFiles(Protocol):
    """The part of `artifacts.OutputDir` that cleaning up needs. Paths are relative to it."""

    def files_of(self, job_ids: Iterable[str]) -> dict[str, list[str]]:
        """Job id -> every file an attempt at it wrote, temporary ones too."""
        ...

    def names_for(self, job_id: str, summary: Summary, fence: int) -> list[str]:
        """Every path that attempts up to `fence` may have written, temporary ones too."""
        ...

    def remove(self, paths: Iterable[str]) -> int: ...


class Cleaning:
    def __init__(self, store: SqliteStore, files: JobFiles) -> None:
        self._store, self._files = store, files

    async def sweep(self) -> None:
        """Remove what attempts of earlier lives left. A life ends what it has published, so only jobs
        that ended with more than one attempt or without success can have left files; files of jobs
        that this store does not know are somebody else's and stay."""
        try:
            published = await self._store.littering()
            await asyncio.to_thread(self._sweep, published)
            await self._store.swept()
        except (OSError, sqlite3.Error) as error:
            log.error("sweep stopped: %s", error)

    async def remove(self, jobs: Iterable[Job], *, but: Iterable[ImageFile] = ()) -> None:
        """Whatever attempts at these jobs wrote up to their fences, except what is published."""
        kept = {image["path"] for image in but}
        names = self._files.names_for
        paths = [path for job in jobs for path in names(job.job_id, job.summary, job.fence)]
        with contextlib.suppress(OSError):  # swept at the next start
            await asyncio.to_thread(
                self._files.remove, [path for path in paths if path not in kept]
            )

    async def retire(
        self,
        before: Callable[[], float | None],
        bury: Callable[[list[Job], Literal["expired"]], Awaitable[None]],
    ) -> None:
        """For ever: bury the jobs that ended before `before()`; None: they are kept."""
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
