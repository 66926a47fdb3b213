"""JobBoard: shows jobs to their owners, from the local view where that is good enough.

Does not change a job. Knows nothing of routes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Response

from serve_app.api.catalog import Catalog
from serve_app.api.output import OutputFiles
from serve_app.api.ports import RegistryPort
from serve_app.api.replies import JobStatusResponse
from serve_app.api.view import TERMINAL, LocalView
from serve_app.config import Settings
from serve_app.errors import NotFound
from serve_app.messages import JobView
from serve_app.params import GenerationParams
from serve_app.resolve import Order

POLL_S = (1, 15)  # shortest and longest Retry-After of a job that is not final


@dataclass(frozen=True)
class JobBoard:
    settings: Settings
    registry: RegistryPort
    view: LocalView
    catalog: Catalog
    files: OutputFiles
    resolve: Callable[[Order], GenerationParams]

    async def job(self, job_id: str, owner: str) -> JobView:
        """At most a second old. Somebody else's job is not found, like one that never was."""
        if not _is_uuid(job_id):
            raise NotFound("A job id is a UUID in lower case.")
        job = self.view.get(job_id)
        if job is None or (job["status"] not in TERMINAL and not self.view.fresh):
            asked = await self.registry.get(job_id)
            job = None if asked is None else self.view.remember(asked)
        if job is None or job["owner"] != owner:
            raise NotFound("There is no job of this id.")
        return job

    def accepted(self, job: JobView, *, replayed: bool) -> Response:
        response = self._reply(job, 202)
        response.headers["Location"] = f"/v1/jobs/{job['job_id']}"
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return response

    def shown(self, job: JobView, if_none_match: str | None) -> Response:
        if if_none_match and _names(if_none_match, job["rev"]):
            return Response(status_code=304, headers=self._headers(job, time.time()))
        return self._reply(job, 200)

    def _reply(self, job: JobView, status: int) -> Response:
        now = time.time()
        body = JobStatusResponse.of(job, self.view, now).model_dump_json()
        return Response(body, status, self._headers(job, now), "application/json")

    def _headers(self, job: JobView, now: float) -> dict[str, str]:
        headers = {"ETag": f'W/"{job["rev"]}"', "Cache-Control": "private, no-cache"}
        if job["status"] not in TERMINAL:
            shortest, longest = POLL_S
            eta = self.view.eta_seconds(job, now) or 0
            headers["Retry-After"] = str(max(shortest, min(longest, round(eta / 4))))
        return headers


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _names(if_none_match: str, rev: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return f'"{rev}"' in tags or "*" in tags
