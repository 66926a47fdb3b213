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

from serve_app.jobs.job import Job, Status, paths_of
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import ImageFile, Summary

log = logging.getLogger("assets.registry")

RETIRE_EVERY_S = 30.0  # seconds between two looks for jobs that have been kept long enough
RETIRED_AT_ONCE = 100  # jobs per transaction
GONE_KEPT_S = 30 * 86_400.0
"""The id of a job that is deleted or has expired is remembered so long. By then its idempotency key, a cursor
of a list and a submission on its way are over, too."""


UPLOAD_GRACE_S = 300.0
"""An upload that has expired stays so long: an order that names it may be on its way, and clocks differ."""


class Uploads(Protocol):
    """The methods of `artifacts.UploadFolder` that cleaning needs."""

    def over(self, before: float) -> list[str]:
        """Ids of uploads whose time was over at `before`."""
        ...

    def remove(self, upload_ids: Iterable[str], now: float) -> None:
        """Raises OSError."""
        ...


class JobFiles(Protocol):
    """The methods of `artifacts.OutputDir` that cleaning needs. Paths are relative to that folder."""

    def files_of(self, job_ids: Iterable[str]) -> dict[str, list[str]]:
        """Job id -> every file that an attempt at it wrote, temporary ones too. Reads folders."""
        ...

    def names_for(self, job_id: str, summary: Summary, fence: int) -> list[str]:
        """Every path that attempts up to `fence` may have written, temporary ones too. May read folders."""
        ...

    def remove(self, paths: Iterable[str]) -> int: ...

    @property
    def uploads(self) -> Uploads: ...

    def probe(self) -> None:
        """Raises OSError if images cannot be written now."""
        ...


class Cleaning:
    """Nothing here raises when a file or the disk fails: it is logged, and tried again later."""

    def __init__(self, store: SqliteStore, files: JobFiles) -> None:
        self._store, self.files = store, files

    async def can_store(self) -> bool:
        """Images can be written now."""
        try:
            await asyncio.to_thread(self.files.probe)
        except OSError as error:
            log.warning("the output folder cannot be written yet: %s", error.strerror)
            return False
        return True

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
        with contextlib.suppress(OSError):  # the sweep at the next start removes them
            await asyncio.to_thread(self._remove, [*jobs], paths_of(but), self.files)

    async def remove_uploads(self, now: float) -> None:
        """Those whose time is over and which no job needs that lives. `now`: unix seconds."""
        uploads = self.files.uploads
        try:
            if over := await asyncio.to_thread(uploads.over, now - UPLOAD_GRACE_S):
                unneeded = set(over) - await self._store.uploads_in_use()
                await asyncio.to_thread(uploads.remove, unneeded, now)
        except (OSError, sqlite3.Error) as error:
            log.warning("uploads could not be removed for now: %s", error)

    async def retire(
        self,
        before: Callable[[], float | None],
        bury: Callable[[list[Job], Literal["expired"]], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        """Call `bury` with the jobs that ended before `before()`, for ever, and forget what was buried long
        before `now()` (both unix seconds), and uploads that are over. While `before()` is None, finished jobs
        are kept."""
        while True:
            try:
                moment = before()
                jobs = await self._store.ended_before(moment, RETIRED_AT_ONCE) if moment else []
                if jobs:
                    await bury(jobs, "expired")
                await self.remove_uploads(now())
                gone = await self._store.forget_gone(now() - GONE_KEPT_S, RETIRED_AT_ONCE)
            except sqlite3.Error as error:
                log.error("retention stopped for now: %s", error)
                jobs, gone = [], 0
            if max(len(jobs), gone) < RETIRED_AT_ONCE:
                await asyncio.sleep(RETIRE_EVERY_S)

    def _remove(self, jobs: list[Job], kept: set[str], files: JobFiles) -> None:
        for job in jobs:
            if job.status is Status.SUCCESS and job.fence == 1:  # it wrote what it published
                paths = sorted(paths_of(job.images))
            else:
                paths = files.names_for(job.job_id, job.summary, job.fence)
            files.remove([path for path in paths if path not in kept])

    def _sweep(self, published: dict[str, set[str]]) -> None:
        files = self.files
        for job_id, paths in files.files_of(published).items():
            files.remove(path for path in paths if path not in published[job_id])
