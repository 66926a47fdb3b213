"""Labelling: tags, marks, and the priority of a job that waits, change when somebody says so.

Knows rows and lines; nothing of pixels, attempts, or who may ask.
"""

from __future__ import annotations

from serve_app.errors import NotWaiting
from serve_app.jobs.job import Job
from serve_app.jobs.lines import Lines
from serve_app.jobs.repository import JobRepository
from serve_app.messages import JobChanges


class Labelling:
    def __init__(self, jobs: JobRepository, lines: Lines) -> None:
        self._jobs, self._lines = jobs, lines

    async def change(self, job_id: str, owner: str, changes: JobChanges) -> Job | None:
        """The job as it is now. None: this owner has no such job. Raises NotWaiting, and nothing is changed;
        sqlite3.Error."""
        job = await self._jobs.find(job_id)
        if job is None or job.owner != owner:
            return None
        priority = changes.get("priority", job.priority)
        if priority != job.priority and job_id not in self._lines:
            raise NotWaiting
        changed = await self._jobs.relabel(job_id, changes)
        if changed is not None and priority != job.priority:
            self._lines.move(job_id, changed.place)
        return changed
